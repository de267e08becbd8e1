"""Lets the scenario's vision transformer learn from its images without labels, before anything else is trained.

It runs where `pretraining:` of params.yaml names the scenario. `backbone.safetensors`: the network's weights, to be
named as `models: backbone.weights`. `pretrain.json`: from what weights it began, on how many images of which domains,
the mean loss of each epoch. Only training splits are looked at, and no label of any domain. With `domains: both` every
method on this backbone, source_only too, stands on images of the target.
"""

import shutil
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from safetensors.torch import save_file

from isthmus.core.code.fingerprint import Code
from isthmus.core.config import Config
from isthmus.core.device import make_deterministic, pick_device
from isthmus.core.errors import ConfigError, DataError
from isthmus.core.files import atomic_folder, write_json
from isthmus.core.seeds import derive_seed
from isthmus.data.manifest import INDEX, MANIFEST, read_table
from isthmus.data.scenario import Scenario
from isthmus.data.shards import Rows
from isthmus.models import ModelConfig
from isthmus.models.bands import colour_shares, known_wavelengths
from isthmus.models.classifier import Standardise, same_for_all
from isthmus.stages._cli import stage
from isthmus.training.checkpoint import Checkpoint, checkpoint_key
from isthmus.training.masked import MaskedImages, PretrainConfig, pretrain


class Params(Config):
    """What `pretrain` reads."""

    SECTIONS: ClassVar[dict[str, str]] = {
        "scenario": "scenarios.{scenario}",
        "model": "models.[scenarios.{scenario}.model]",
        "pretraining": "pretraining.{scenario}",
    }
    scenario: Scenario
    model: ModelConfig
    pretraining: PretrainConfig
    seed: int


def check_backbone(params: Params, channels: int) -> None:
    """Checks that there are patches to mask, and that the weights can be read again as they are written.

    Raises:
        ConfigError: the model is no timm vision transformer, the images have other channels than it masks, or its first
            layer was inflated for three bands: whoever reads the file would take them for red, green and blue, and
            inflate them again.
    """
    if params.model.backbone.get("name") != "timm" or channels != 3:
        raise ConfigError(
            f"params.yaml: pretraining needs a timm vision transformer and images of 3 channels (got"
            f" {params.model.backbone.get('name')}, {channels}). Change models: backbone.name or preprocess, or drop"
            " the section"
        )
    config = params.model.backbone_config(f"params.yaml: models.{params.scenario.model}.backbone.")
    shares = colour_shares(known_wavelengths(config.wavelengths, channels))
    if config.bands == "inflate" and not shares.equal(torch.eye(3)):
        raise ConfigError(
            f"params.yaml: models.{params.scenario.model}.backbone.wavelengths: pretraining writes weights for red,"
            f" green and blue in this order (got {config.wavelengths}). Set backbone.bands: rgb, prepare the bands in"
            " this order and drop wavelengths, or drop the section"
        )


def run(params: Params, *, manifest: Path, prepared: Path, cache: Path, checkpoints: Path, pretrained: Path) -> None:
    """Writes the pretrained backbone."""
    chosen, scenario = params.pretraining, params.scenario
    make_deterministic(chosen.threads)
    device = pick_device(chosen.device)
    index = read_table(prepared / "index.parquet", INDEX)
    table = read_table(manifest, MANIFEST).set_index("image_id").loc[index["image_id"]].reset_index()
    domains = scenario.domains if chosen.domains == "both" else scenario.source
    rows = np.flatnonzero((table["split"] == "train") & table["domain"].isin(domains))
    if not len(rows):
        raise DataError(
            f"no training images in: {', '.join(domains)}. See out/.../audit.json and the shares of the splits"
        )
    images = Rows(prepared / "shards", index)
    height, _, channels = images.shape
    options = {**params.model.backbone, "weights": chosen.weights}
    check_backbone(params, channels)
    config = params.model.model_copy(update={"backbone": options}).backbone_config("params.yaml: pretraining.")
    built = config.build(channels, height, cache)
    seed = derive_seed(params.seed, "pretrain")
    model = MaskedImages(built.network, channels, seed).to(device)
    facts = {"start": built.origin, "domains": domains, "images": len(rows), "config": chosen.model_dump(mode="json")}
    inputs = [manifest, prepared / "index.parquet", prepared / "facts.json"]
    key = checkpoint_key({**facts, "seed": seed, "backbone": options}, inputs, Code().fingerprint("pretrain"))
    work = checkpoints / f"pretrain-{key}"
    standardise = Standardise(same_for_all(built.mean, 1), same_for_all(built.std, 1)).to(device)
    losses = pretrain(model, standardise, images, rows, chosen, seed, device, Checkpoint(work))
    with atomic_folder(pretrained) as folder:
        tensors = {name: value.contiguous().cpu() for name, value in model.network.state_dict().items()}
        save_file(tensors, folder / "backbone.safetensors")
        write_json(folder / "pretrain.json", facts | {"losses": losses})
    shutil.rmtree(work)


if __name__ == "__main__":
    stage(run)

"""Runs the frozen backbone over all prepared images, once.

`features/<shard>.npy` is float32 `[N, D]`, one file a shard and in its order; `backbone.safetensors` the very weights
that made them; `embed.json` how the network is built and where its weights came from. Features are cached by shard
and weights outside the outputs, so that a run that was cut off, or one more image, costs only what is new.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from isthmus.core.config import Config
from isthmus.core.device import DeviceName, make_deterministic, pick_device
from isthmus.core.files import atomic_file, atomic_folder, hash_files, sha256_file
from isthmus.core.progress import track
from isthmus.data.scenario import Scenario
from isthmus.data.shards import open_shard
from isthmus.models import ModelConfig
from isthmus.models.embedding import encode, store_backbone, stored_encoder
from isthmus.stages._cli import stage


class EmbedConfig(Config):
    """The section `embed`."""

    batch_size: int = Field(32, ge=1, description="[image]")
    threads: int = Field(2, ge=1, description="of the CPU; features may differ in the last digits between counts")
    device: DeviceName = "auto"


class Params(Config):
    """What `embed` reads."""

    SECTIONS: ClassVar[dict[str, str]] = {
        "scenario": "scenarios.{scenario}",
        "model": "models.[scenarios.{scenario}.model]",
    }
    scenario: Scenario
    model: ModelConfig
    embed: EmbedConfig


def run(params: Params, *, prepared: Path, cache: Path, features: Path) -> None:
    """Writes features of all shards."""
    make_deterministic(params.embed.threads)
    device = pick_device(params.embed.device)
    shards = sorted((prepared / "shards").glob("*.npy"))
    height, channels = open_shard(shards[0]).shape[2:]
    config = params.model.backbone_config(f"params.yaml: models.{params.scenario.model}.backbone.")
    with atomic_folder(features) as folder:
        store_backbone(folder, config.build(channels, height, cache), params.model, channels, height)
        weights = hash_files([folder / "backbone.safetensors", folder / "embed.json"])
        encoder = stored_encoder(folder, len(params.scenario.domains)).eval().to(device)
        for shard in shards:
            kept = cache / "features" / f"{sha256_file(shard)[:32]}-{weights[:32]}-{device.type}.npy"
            if not kept.is_file():
                images = open_shard(shard)
                starts = range(0, len(images), params.embed.batch_size)
                parts = [
                    encode(encoder, images[start : start + params.embed.batch_size], device)
                    for start in track(starts, f"embed {shard.stem}", len(starts), "batch")
                ]
                with atomic_file(kept) as partial, partial.open("wb") as stream:
                    np.save(stream, np.concatenate(parts))
            (folder / shard.name).write_bytes(kept.read_bytes())


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    stage(run)

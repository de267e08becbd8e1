"""Runs the frozen backbone over all prepared images, once.

`features/<shard>.npy` is float32 `[N, D]`, one file a shard and in its order, or, for tasks with cells in frozen mode,
float16 `[N, T, D]`: of each cell of the image's grid; `features/view<K>-<shard>.npy` the same of photometric views of
the source's images; `backbone.safetensors` the very weights that made them, in float32; `embed.json` how the network is
built, where its weights came from, and the precision at which it ran. Features are cached by shard, weights, precision
and code outside the outputs, so that a run that was cut off, or one more image, costs only what is new.

`model.json` holds the settings of the scenario's model. `train` depends on it: another model's settings train nothing
again.
"""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from isthmus.core import engine
from isthmus.core.code.fingerprint import Code
from isthmus.core.config import Config
from isthmus.core.device import DeviceName, make_deterministic, pick_device
from isthmus.core.files import atomic_file, atomic_folder, hash_files, sha256_file, write_json
from isthmus.core.progress import log, track
from isthmus.data.augment.photometric import look, photometric_view
from isthmus.data.scenario import Scenario
from isthmus.data.shards import open_shard
from isthmus.models import ModelConfig
from isthmus.models.embedding import COMPARED, FrozenNetwork, frozen_encoder, store_backbone, view_prefix
from isthmus.stages._cli import stage


class EmbedConfig(Config):
    """The section `embed`."""

    batch_size: int = Field(32, ge=1, description="[image]")
    threads: int = Field(2, ge=1, description="of the CPU; features may differ in the last digits between counts")
    device: DeviceName = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "float32",
        description="of the frozen network; auto: bfloat16 where processor or GPU has instructions for it and features"
        " keep a cosine of 0.999 to those of float32",
    )


class Params(Config):
    """What `embed` reads."""

    SECTIONS: ClassVar[dict[str, str]] = {
        "scenario": "scenarios.{scenario}",
        "model": "models.[scenarios.{scenario}.model]",
    }
    scenario: Scenario
    model: ModelConfig
    embed: EmbedConfig


def run(params: Params, *, prepared: Path, cache: Path, features: Path, model: Path) -> None:
    """Writes the features of all shards, and the settings of the model."""
    make_deterministic(params.embed.threads)
    device, size = pick_device(params.embed.device), params.embed.batch_size
    shards = sorted((prepared / "shards").glob("*.npy"))
    height, channels = open_shard(shards[0]).shape[2:]
    answers = params.scenario.annotation_config()
    images = 1 + answers.second if answers.by_place else 0
    channels //= max(1, images)
    config = params.model.backbone_config(f"params.yaml: models.{params.scenario.model}.backbone.")
    with atomic_folder(features) as folder:
        built = store_backbone(folder, config.build(channels, height, cache), params.model, channels, height, images)
        if made_for := built.data_config:
            shown = ", ".join(f"{name} {[round(value, 4) for value in made_for[name]]}" for name in ("mean", "std"))
            log(f"embed: {built.origin}; {shown}: {made_for['statistics_from']}")
        first = open_shard(shards[0])[:COMPARED]
        domains = len(params.scenario.domains)
        encoder = frozen_encoder(folder, domains, params.embed.precision, first, device)
        weights = hash_files([folder / "backbone.safetensors", folder / "embed.json"])  # with the precision
        network = FrozenNetwork(folder, weights, domains, device, params.embed.threads, encoder)
        code = Code().fingerprint("embed")[:32]
        target = f"domain{len(params.scenario.source)}-"  # as `plan_shards` names them
        whole = params.model.mode == "full"  # training sees images, and these are features of images for `shift`
        for shard in shards:
            stem = f"{sha256_file(shard)[:32]}-{code}-{weights[:32]}-{device.type}"
            views = 0 if whole or shard.name.startswith(target) else params.model.views
            for number in range(1 + views):
                prefix, of = (view_prefix(number), look(number, views)) if number else ("", None)
                form = "view{}-{:g}-".format(*of) if of else "whole-" if whole else ""
                kept = cache / "features" / f"{form}{stem}.npy"
                _write(
                    folder / f"{prefix}{shard.name}", shard, size, kept, partial(_rows, network, of, shard, size, whole)
                )
    write_json(model, params.model.model_dump(mode="json"))


def _rows(
    network: FrozenNetwork, of: tuple[int, float] | None, shard: Path, size: int, whole: bool, start: int
) -> NDArray[Any]:
    """Returns the features of a batch; a unit of work (`core/engine.py`). Its images are the same on every engine."""
    images = open_shard(shard)[start : start + size]
    rows = network.encode(photometric_view(images, *of) if of else images)
    return rows.astype(np.float32).mean(axis=1) if whole and rows.ndim == 3 else rows


def _write(to: Path, shard: Path, size: int, kept: Path, answer: Callable[[int], NDArray[Any]]) -> None:
    """Writes what `answer` returns for each batch of a shard's images, by its first, or what was kept of it."""
    if not kept.is_file():
        count = len(open_shard(shard))
        starts = range(0, count, size)
        batches = track(engine.in_order(answer, starts), f"embed {shard.stem}", len(starts), "batch")
        with atomic_file(kept) as partial:
            written: np.memmap[Any, Any] | None = None
            for start, rows in zip(starts, batches, strict=True):  # streamed: features of cells outgrow their images
                if written is None:
                    shape = (count, *rows.shape[1:])
                    written = np.lib.format.open_memmap(partial, mode="w+", dtype=rows.dtype, shape=shape)
                written[start : start + len(rows)] = rows
            assert written is not None, "a shard has images"
            written.flush()
    shutil.copyfile(kept, to)


if __name__ == "__main__":
    from isthmus.stages import embed  # by this name workers of an engine find the functions of this file

    torch.set_grad_enabled(False)
    stage(embed.run)

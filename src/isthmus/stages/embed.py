"""Runs the frozen backbone over all prepared images, once.

`features/<shard>.npy` is float32 `[N, D]`, one file a shard and in its order; `backbone.safetensors` the very weights
that made them; `embed.json` how the network is built and where its weights came from. Features are cached by shard
and weights outside the outputs, so that a run that was cut off, or one more image, costs only what is new.
`second/<shard>.npy` is float32 `[N, D']`, hand-made descriptors of the same images (`models/descriptors.py`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from isthmus.core.config import Config
from isthmus.core.device import DeviceName, make_deterministic, pick_device
from isthmus.core.files import atomic_file, atomic_folder, hash_files, sha256_file
from isthmus.core.progress import log, track
from isthmus.data.scenario import Scenario
from isthmus.data.shards import SECOND_VIEW, open_shard
from isthmus.models import ModelConfig, descriptors
from isthmus.models.descriptors import describe
from isthmus.models.embedding import encode, store_backbone, stored_encoder
from isthmus.stages._cli import stage

Answer = Callable[[NDArray[Any]], NDArray[np.float32]]


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
    """Writes features and descriptors of all shards."""
    make_deterministic(params.embed.threads)
    device, size = pick_device(params.embed.device), params.embed.batch_size
    shards = sorted((prepared / "shards").glob("*.npy"))
    height, channels = open_shard(shards[0]).shape[2:]
    config = params.model.backbone_config(f"params.yaml: models.{params.scenario.model}.backbone.")
    with atomic_folder(features) as folder:
        built = store_backbone(folder, config.build(channels, height, cache), params.model, channels, height)
        if made_for := built.data_config:
            shown = ", ".join(f"{name} {[round(value, 4) for value in made_for[name]]}" for name in ("mean", "std"))
            log(f"embed: {built.origin}; {shown}: {made_for['statistics_from']}")
        weights = hash_files([folder / "backbone.safetensors", folder / "embed.json"])
        encoder = stored_encoder(folder, len(params.scenario.domains)).eval().to(device)
        (folder / SECOND_VIEW).mkdir()
        for shard in shards:
            kept = cache / "features" / sha256_file(shard)[:32]
            own, second = f"{weights[:32]}-{device.type}", sha256_file(Path(descriptors.__file__))[:32]
            _write(folder / shard.name, shard, size, f"{kept}-{own}.npy", "embed", lambda x: encode(encoder, x, device))
            _write(folder / SECOND_VIEW / shard.name, shard, size, f"{kept}-{second}.npy", "describe", describe)


def _write(to: Path, shard: Path, size: int, kept: str, shown: str, answer: Answer) -> None:
    """Writes what `answer` says of a shard's images, `size` at a time, or what was kept of it."""
    if not Path(kept).is_file():
        images = open_shard(shard)
        starts = range(0, len(images), size)
        batches = track(starts, f"{shown} {shard.stem}", len(starts), "batch")
        with atomic_file(Path(kept)) as partial, partial.open("wb") as stream:
            np.save(stream, np.concatenate([answer(images[start : start + size]) for start in batches]))
    to.write_bytes(Path(kept).read_bytes())


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    stage(run)

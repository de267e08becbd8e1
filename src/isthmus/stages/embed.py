"""Runs the frozen backbone over all prepared images, once.

`features/<shard>.npy` is float32 `[N, D]`, one file a shard and in its order; `backbone.safetensors` the very weights
that made them; `embed.json` how the network is built and where its weights came from. Features are cached by shard,
weights and code outside the outputs, so that a run that was cut off, or one more image, costs only what is new.
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
from isthmus.core.fingerprint import Code
from isthmus.core.progress import log, track
from isthmus.data.scenario import Scenario
from isthmus.data.shards import open_shard
from isthmus.models import ModelConfig
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
    """Writes the features of all shards."""
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
        code = Code().fingerprint("embed")[:32]
        for shard in shards:
            kept = cache / "features" / f"{sha256_file(shard)[:32]}-{code}-{weights[:32]}-{device.type}.npy"
            _write(folder / shard.name, shard, size, kept, lambda x: encode(encoder, x, device))


def _write(to: Path, shard: Path, size: int, kept: Path, answer: Answer) -> None:
    """Writes what `answer` says of a shard's images, `size` at a time, or what was kept of it."""
    if not kept.is_file():
        images = open_shard(shard)
        starts = range(0, len(images), size)
        batches = track(starts, f"embed {shard.stem}", len(starts), "batch")
        with atomic_file(kept) as partial, partial.open("wb") as stream:
            np.save(stream, np.concatenate([answer(images[start : start + size]) for start in batches]))
    to.write_bytes(kept.read_bytes())


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    stage(run)

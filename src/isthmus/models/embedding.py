"""The backbone that `embed` stored beside its features: how to have it again, with the very same weights."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from isthmus.core.files import atomic_file, read_json, write_json
from isthmus.models import ModelConfig
from isthmus.models.backbones import Backbone
from isthmus.models.classifier import Encoder, Standardise, same_for_all

_FACTS, _WEIGHTS = "embed.json", "backbone.safetensors"


@dataclass(frozen=True)
class StoredBackbone:
    """What `embed.json` says.

    Attributes:
        backbone: name and options as in params.yaml.
        origin: where the weights came from.
        feature_dim: D.
        channels: of the images.
        image_size: [pixel].
        mean: per channel, the network's own.
        std: per channel.
        data_config: what images the weights were made for, and on whose word mean and std are.
    """

    backbone: dict[str, Any]
    origin: str
    feature_dim: int
    channels: int
    image_size: int
    mean: list[float]
    std: list[float]
    data_config: dict[str, Any] = field(default_factory=dict)


def store_backbone(
    folder: Path, built: Backbone, config: ModelConfig, channels: int, image_size: int
) -> StoredBackbone:
    """Writes `embed.json` and `backbone.safetensors`: provenance is the bytes, not a name on a hub."""
    facts = StoredBackbone(
        config.backbone, built.origin, built.feature_dim, channels, image_size, list(built.mean), list(built.std),
        built.data_config,
    )  # fmt: skip
    with atomic_file(folder / _WEIGHTS) as partial:
        save_file({name: tensor.contiguous() for name, tensor in built.network.state_dict().items()}, partial)
    write_json(folder / _FACTS, facts.__dict__)
    return facts


def read_facts(folder: Path) -> StoredBackbone:
    """Reads `embed.json`."""
    return StoredBackbone(**read_json(folder / _FACTS))


def stored_encoder(
    folder: Path, domains: int, mean: torch.Tensor | None = None, std: torch.Tensor | None = None
) -> Encoder:
    """Rebuilds the encoder from the stored weights.

    Args:
        folder: what `embed` wrote.
        domains: number of domains, sources and target.
        mean: float32 `[domains, C]` to normalise by instead of the network's own.
        std: likewise.
    """
    facts = read_facts(folder)
    config = ModelConfig(mode="frozen", backbone=facts.backbone).backbone_config(f"{folder / _FACTS}: backbone.")
    with torch.random.fork_rng(devices=[]):
        network = config.skeleton(facts.channels, facts.image_size)
    network.load_state_dict(load_file(folder / _WEIGHTS), strict=True)
    own_mean, own_std = same_for_all(facts.mean, domains), same_for_all(facts.std, domains)
    return Encoder(network, Standardise(own_mean if mean is None else mean, own_std if std is None else std))


@torch.inference_mode()
def encode(encoder: Encoder, images: NDArray[Any], device: torch.device) -> NDArray[np.float32]:
    """Returns float32 features `[N, D]` of images `[N, H, W, C]`."""
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).to(device)
    domains = torch.zeros(len(images), dtype=torch.int64, device=device)
    features: NDArray[np.float32] = encoder(pixels, domains).float().cpu().numpy()
    return features

"""Backbones: images -> features. One module a family; the folder is the registry."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field
from torch import nn

from isthmus.core.config import Config


@dataclass(frozen=True)
class Backbone:
    """A network and what its inputs must look like.

    Attributes:
        network: float32 `[B, C, H, W]`, normalised -> float32 features `[B, D]`.
        feature_dim: D.
        mean: per channel, for values in [0, 1]; the network's own, or it reads garbage.
        std: per channel.
        origin: where the weights came from, one line a person can check.
    """

    network: nn.Module
    feature_dim: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str


class BackboneConfig(Config):
    """Options that every backbone has. A module here has `Config(BackboneConfig)` with its own beside them."""

    seed: int = Field(0, description="initial weights where no pretrained ones are used")
    bands: Literal["inflate", "rgb"] = Field(
        "inflate",
        description="of images that are not red, green, blue: inflate: the first layer takes all channels; rgb: only "
        "these three of them (models/bands.py)",
    )
    wavelengths: list[float | None] | None = Field(
        None,
        description="[nm] of each prepared channel, null where it has none; none: red, green, blue and then unknown",
    )

    def takes_rgb(self, channels: int) -> bool:
        """Returns whether the images are what a network for three colours takes as it is."""
        return channels == 3 and self.wavelengths is None

    def build(self, channels: int, image_size: int, cache: Path) -> Backbone:
        """Returns the network with its weights; downloads and conversions go to `cache`."""
        raise TypeError(f"{type(self).__module__}: Config has no build()")

    def skeleton(self, channels: int, image_size: int) -> nn.Module:
        """Returns the network without its weights, for tensors that were stored before."""
        raise TypeError(f"{type(self).__module__}: Config has no skeleton()")

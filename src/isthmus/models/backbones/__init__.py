"""Backbones: images -> features. One module a family; the folder is the registry."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from torch import nn

from isthmus.core.config import Config
from isthmus.core.errors import ConfigError
from isthmus.models.bands import known_wavelengths, moved


@dataclass(frozen=True)
class Backbone:
    """A network and what its inputs must look like.

    Attributes:
        network: float32 `[B, C, H, W]`, normalised -> float32 features `[B, D]`.
        feature_dim: D.
        mean: per channel, for values in [0, 1]; the network's own, or it reads garbage.
        std: per channel.
        origin: where the weights came from, one line a person can check.
        data_config: what images the weights were made for, and on whose word (`statistics_from`); JSON types.
    """

    network: nn.Module
    feature_dim: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str
    data_config: dict[str, Any] = field(default_factory=dict)


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

    mean: list[float] | None = Field(
        None,
        description="of each channel, values in [0, 1], instead of the weights' own; also three for red, green, blue",
    )
    std: list[float] | None = Field(None, description="likewise")
    image_size: int | None = Field(
        None,
        ge=14,
        le=2048,
        description="[pixel] of scenarios that set no preprocess.image_size; null: the weights' own",
    )
    interpolation: Literal["bicubic", "bilinear", "lanczos", "nearest"] | None = Field(
        None, description="of scenarios that set none in preprocess; none: the weights' own"
    )
    crop: float | None = Field(
        None, gt=0, le=1, description="[share] of the short side, of scenarios that set none; none: the weights' own"
    )

    def preprocessing(self, names: Collection[str]) -> dict[str, Any]:
        """Returns defaults for a scenario's `preprocess`, of those named: as set here, or as the weights were made for.

        Args:
            names: of image_size, interpolation, crop and crop_mode; others have no default here.
        """
        given = {"image_size": self.image_size, "interpolation": self.interpolation, "crop": self.crop}
        known = {name: value for name, value in given.items() if value is not None and name in names}
        open_ = {"image_size", "interpolation", "crop", "crop_mode"} & set(names) - set(known)
        own = self.made_for() if open_ else {}
        return {name: value for name, value in own.items() if name in open_} | known

    def made_for(self) -> dict[str, Any]:
        """Returns image_size, interpolation, crop and crop_mode of the images that the weights were made for."""
        return {}

    def set_statistic(self, name: Literal["mean", "std"], channels: int) -> tuple[float, ...] | None:
        """Returns `mean` or `std` as it is set, a value a channel; None: not set.

        Of three values for red, green and blue each channel has its nearest colour's, or the mean of all (`bands.py`).

        Raises:
            ConfigError: there are neither as many as channels nor three, or a std is not above zero.
        """
        values: list[float] | None = getattr(self, name)
        if values is None:
            return None
        if len(values) not in (channels, 3) or (name == "std" and min(values) <= 0):
            above = ", above 0" if name == "std" else ""
            raise ConfigError(
                f"models: backbone.{name}: one number a channel{above} (got {values}). The prepared images have"
                f" {channels} channels; three numbers mean red, green and blue"
            )
        return (
            tuple(values) if len(values) == channels else moved(values, known_wavelengths(self.wavelengths, channels))
        )

    def takes_rgb(self, channels: int) -> bool:
        """Returns whether the images are what a network for three colours takes as it is."""
        return channels == 3 and self.wavelengths is None

    def build(self, channels: int, image_size: int, cache: Path) -> Backbone:
        """Returns the network with its weights; downloads and conversions go to `cache`."""
        raise TypeError(f"{type(self).__module__}: Config has no build()")

    def check_weights(self, image_size: int) -> None:
        """Refuses, before any image is read, a file of weights that `build` would refuse."""

    def skeleton(self, channels: int, image_size: int) -> nn.Module:
        """Returns the network without its weights, for tensors that were stored before."""
        raise TypeError(f"{type(self).__module__}: Config has no skeleton()")

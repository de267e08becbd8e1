"""Satellite and aerial images: bands by name, place or wavelength, one [m/pixel], percentile stretch, NDVI and NDWI.

Order: transparency, bands, resampling, indices, stretch, fill. A band that the file marks as transparency is believed
only where it looks like it and is not asked for (`bands.without_transparency`). Nodata (`Image.valid`) is
never averaged in (`imaging.resample`), never counted by a percentile and never a zero: what stays without data becomes
the median of its domain's training pixels. Indices are made of resampled real values, for a ratio of means is what a
coarser sensor measures. The stretch takes a percentile of each band of one domain's training images to 0 and another to
1; each image weighs the same.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from isthmus.core.errors import DataError
from isthmus.data.image import Image
from isthmus.data.imaging.bands import (
    COLOURS,
    INDICES,
    band_list,
    find_band,
    normalised_difference,
    without_transparency,
)
from isthmus.data.imaging.quantiles import quantiles
from isthmus.data.imaging.resample import around_middle, middle, resampled
from isthmus.data.kinds import Fitted, Kind, KindConfig, Orientation

_QUANTILES = 129  # kept of each band of each image: a kilobyte, whatever the image's size


class Config(KindConfig):
    """Options of satellite and aerial images."""

    orientation: ClassVar[Orientation] = "turns"  # seen from above there is no up

    bands: list[int | str] | None = Field(
        None, description="number from 1, name, or wavelength ('842nm'); 'a|b': the first that exists; none: all"
    )
    indices: list[Literal["ndvi", "ndwi"]] = Field(
        default_factory=list, description="further channels after the bands, -1..1 as 0..1; red, green, nir are found"
    )
    gsd: float | None = Field(
        None,
        gt=0,
        le=100_000,
        description="[m/pixel] to which all images are resampled, then cropped or padded; none: resized",
    )
    stretch: Literal["none"] | tuple[float, float] = Field(
        (2.0, 98.0), description="[percentile] of each band's training pixels that become 0 and 1; none: as stored"
    )
    min_valid: float = Field(0.1, ge=0, le=1, description="[share] of an image that must have data")
    depth: Literal["uint8", "uint16"] = Field("uint8", description="of the prepared array")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        made = len(self.indices) + len(self.bands or [])
        if self.bands is not None and made != self.channels:
            raise ValueError(f"bands and indices make {made} channels; 'channels' says {self.channels}")
        if self.bands == [] or self.channels <= len(self.indices):
            raise ValueError("there must be a band beside the indices")
        if self.stretch != "none" and not 0 <= self.stretch[0] < self.stretch[1] <= 100:
            raise ValueError(f"stretch {list(self.stretch)} must be two rising percentiles between 0 and 100")
        return self

    def build(self) -> "RemoteSensing":
        """Returns the kind with these options."""
        return RemoteSensing(
            self.image_size,
            self.channels,
            self.bands,
            list(self.indices),
            self.gsd,
            None if self.stretch == "none" else self.stretch,
            self.min_valid,
            self.depth,
        )


class RemoteSensing(Kind):
    """Prepares scenes; uint8 or uint16 `[image_size, image_size, channels]`."""

    def __init__(
        self,
        image_size: int,
        channels: int,
        bands: list[int | str] | None = None,
        indices: list[Any] | None = None,
        gsd: float | None = None,
        stretch: tuple[float, float] | None = (2.0, 98.0),
        min_valid: float = 0.1,
        depth: str = "uint8",
    ) -> None:
        self.image_size = image_size
        self.channels = channels
        self.bands = bands
        self.indices = indices or []
        self.gsd = gsd
        self.stretch = stretch
        self.min_valid = min_valid
        self.depth = depth

    def fit(self, images: Iterable[Image]) -> Fitted:
        """Returns `{dtype: {"low", "median", "high"}}`, a number a band each, of valid training pixels."""
        seen: dict[str, list[NDArray[np.float64]]] = {}
        steps = np.linspace(0, 1, _QUANTILES)
        for whole in images:
            try:
                image = without_transparency(whole, self.bands)
                pixels = self._chosen(image)
            except DataError:  # `prepare` puts it into quarantine with this reason
                continue
            values = pixels.reshape(-1, pixels.shape[2]) if image.valid is None else pixels[image.valid]
            if len(values):
                seen.setdefault(image.pixels.dtype.name, []).append(quantiles(values, steps))
        low, high = (2.0, 98.0) if self.stretch is None else self.stretch
        fitted: Fitted = {}
        for dtype, each in sorted(seen.items()):
            at = np.percentile(np.concatenate(each), [low, 50, high], axis=0)
            fitted[dtype] = {name: at[k].round(8).tolist() for k, name in enumerate(("low", "median", "high"))}
        return fitted

    def learns_from(self, dtype: str, channels: int) -> bool:
        """Returns whether such images are looked at: every band has percentiles."""
        return True

    def prepare(self, image: Image, fitted: Fitted) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Returns the prepared scene, `[image_size, image_size, channels]`."""
        image = without_transparency(image, self.bands)
        chosen, needed = self._chosen(image), self._index_bands(image)
        dtype = image.pixels.dtype.name
        if dtype not in fitted:
            raise DataError(
                f"pixels are {dtype}, and no training image of this domain that could be used is: no range to stretch"
                " them by"
            )
        share = 1.0 if image.valid is None else float(image.valid.mean())
        if share < self.min_valid:
            raise DataError(f"{share:.1%} of the image has data; 'preprocess.min_valid' requires {self.min_valid:.1%}")
        both = np.concatenate([chosen, needed], axis=2, dtype=np.float32)
        out, valid = resampled(both, image.valid, self.box(image), self.image_size, self.image_size)
        bands, rest = out[..., : chosen.shape[2]], out[..., chosen.shape[2] :]
        bands[~valid] = fitted[dtype]["median"]
        unit = [self._stretched(bands, image.pixels.dtype, fitted[dtype])]
        for k in range(len(self.indices)):
            index = normalised_difference(rest[..., 2 * k], rest[..., 2 * k + 1])
            unit.append((np.where(valid, index, 0)[..., None] + 1) / 2)
        shown = np.concatenate(unit, axis=2)
        np.clip(shown, 0, 1, out=shown)
        shown *= np.iinfo(self.depth).max
        return np.rint(shown, out=shown).astype(self.depth)

    def _chosen(self, image: Image) -> NDArray[Any]:
        """Returns the wanted bands as they are stored, `[H, W, channels - indices]`."""
        wanted = self.channels - len(self.indices)
        if self.bands is not None:
            return image.pixels[..., [find_band(band, image) for band in self.bands]]
        have = image.pixels.shape[2]
        if have == 1:
            return np.repeat(image.pixels, wanted, axis=2)
        if have != wanted:
            raise DataError(
                f"image has {have} bands. Which {wanted} of them? Set 'preprocess.bands', or 'preprocess.channels' to"
                f" {have + len(self.indices)} for all. There are: {band_list(image)}"
            )
        return image.pixels

    def _index_bands(self, image: Image) -> NDArray[Any]:
        places = [find_band(COLOURS[colour], image) for name in self.indices for colour in INDICES[name]]
        return image.pixels[..., places]

    def box(self, image: Image) -> tuple[float, float, float, float]:
        """Returns the middle, or what `gsd` makes fill the square; see `Kind`."""
        height, width = image.pixels.shape[:2]
        if self.gsd is None:
            return middle(height, width)
        distance = image.facts.get("gsd_m")
        if distance is None:
            why = image.facts.get("no_gsd", "it has no coordinate system")
            raise DataError(
                f"file does not state its ground distance ({why}), which 'preprocess.gsd' needs. Set 'gsd: null'"
            )
        tall, wide = (self.image_size * self.gsd / metres for metres in distance)
        return around_middle(height, width, tall, wide, "gsd")

    def _stretched(self, bands: NDArray[np.float32], dtype: np.dtype[Any], fitted: dict[str, Any]) -> NDArray[Any]:
        if self.stretch is None:
            return bands / np.float32(np.iinfo(dtype).max if dtype.kind in "ui" else 1)
        low, high = np.asarray(fitted["low"], np.float32), np.asarray(fitted["high"], np.float32)
        return (bands - low) / np.maximum(high - low, 1e-9)

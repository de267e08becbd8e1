"""Inspection lines: region of interest, flat field, exposure, CLAHE; each is off until it is asked for.

Statistics are fitted on a domain's training images alone. 8-bit pixels are used as they are; deeper ones are
brought to 8 bit by the 0.5 % and 99.5 % quantiles of their domain's training images (`data/imaging/pixels.py`).
Order: 8 bit, region, flat field, exposure, CLAHE, channels, resize and centre crop.
"""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydantic import Field

from isthmus.core.errors import DataError
from isthmus.data.image import Image
from isthmus.data.imaging.pixels import (
    DepthFit,
    as_seen,
    centre_box,
    centre_square,
    to_eight_bit,
    with_channels,
    without_gaps,
)
from isthmus.data.kinds import Fitted, Kind, KindConfig

_FIELD = 16  # side of the fitted illumination map: light varies slowly, defects do not
_MEAN, _STD = 128.0, 48.0  # where `exposure` puts every line's grey values
_BINS = 256

Side = Annotated[int, Field(ge=0)]


class Config(KindConfig):
    """Options of inspection lines."""

    whole_frame: ClassVar[tuple[str, ...]] = ("roi", "flat_field")

    channels: Literal[1, 3] = Field(3, description="1: grey; 3: RGB, grey images repeated")
    roi: tuple[Side, Side, Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = Field(
        None, description="[top, left, height, width] of the part that is used [pixel]"
    )
    flat_field: bool = Field(False, description="divide by the line's mean illumination, fitted on training images")
    exposure: bool = Field(False, description="normalise each line's mean and standard deviation of grey values")
    squash: bool = Field(
        False,
        description="long frames are squeezed to a square and not cut to their centre; task anomaly: true unless set",
    )
    clahe: float | None = Field(None, gt=1, le=40, description="clip limit of CLAHE, times a flat histogram; none: off")

    def build(self) -> "Industrial":
        """Returns the kind with these options."""
        return Industrial(
            self.image_size, self.channels, self.roi, self.flat_field, self.exposure, self.clahe, self.squash
        )


class _Sums:
    """Adds up illumination and exposure of the training images of one dtype."""

    def __init__(self) -> None:
        self.dtype = ""
        self.grid = np.zeros((_FIELD, _FIELD))
        self.mean = self.variance = 0.0
        self.count = 0

    def add(self, pixels: NDArray[Any]) -> None:
        grey = pixels.mean(axis=2, dtype=np.float32)
        self.dtype = pixels.dtype.name
        self.grid += np.asarray(Pillow.fromarray(grey).resize((_FIELD, _FIELD), Pillow.Resampling.BOX), np.float64)
        self.mean += float(grey.mean(dtype=np.float64))
        self.variance += float(grey.var(dtype=np.float64))
        self.count += 1

    def in_eight_bit(self, ranges: dict[str, list[float]]) -> tuple[Any, Any, Any]:
        low, high = ranges.get(self.dtype, [0.0, 255.0])
        scale = 255.0 / max(high - low, 1e-12)
        offset = low * self.count
        return (self.grid - offset) * scale, (self.mean - offset) * scale, self.variance * scale**2


class Industrial(Kind):
    """Prepares frames of an inspection line; uint8 `[image_size, image_size, channels]`."""

    def __init__(
        self,
        image_size: int,
        channels: int,
        roi: tuple[int, int, int, int] | None = None,
        flat_field: bool = False,
        exposure: bool = False,
        clahe: float | None = None,
        squash: bool = False,
    ) -> None:
        self.image_size = image_size
        self.channels = channels
        self.roi = roi
        self.flat_field = flat_field
        self.exposure = exposure
        self.clahe = clahe
        self.squash = squash

    def fit(self, images: Iterable[Image]) -> Fitted:
        """Returns `range` of deep images, `field` (relative illumination) and `mean`, `std` of grey, as asked for.

        Illumination and exposure are summed in each dtype's own units and brought to 8 bit at the end, when the
        range is known: one pass over the training images is enough.
        """
        depth, sums = DepthFit(), dict[str, _Sums]()
        for image in depth.watch(map(as_seen, images)):
            if self.flat_field or self.exposure:
                try:
                    region = self._region(without_gaps(image.pixels, image.valid))
                except DataError:  # `prepare` puts it into quarantine with this reason
                    continue
                sums.setdefault(region.dtype.name, _Sums()).add(region)
        ranges = depth.ranges()
        fitted: Fitted = {"range": ranges} if ranges else {}
        count = sum(s.count for s in sums.values())
        if count:
            grid, mean, variance = (
                sum(part) / count
                for part in zip(*(s.in_eight_bit(ranges) for _, s in sorted(sums.items())), strict=True)
            )
            if self.flat_field:
                fitted["field"] = np.round(_smooth(grid / max(float(grid.mean()), 1.0)), 5).tolist()
            if self.exposure:
                fitted |= {"mean": round(float(mean), 4), "std": round(float(np.sqrt(variance)), 4)}
        return fitted

    def learns_from(self, dtype: str, channels: int) -> bool:
        """Returns whether such images are looked at: all for illumination and exposure, else deep ones."""
        return self.flat_field or self.exposure or dtype != "uint8"

    def prepare(self, image: Image, fitted: Fitted) -> NDArray[np.uint8]:
        """Returns the prepared frame, uint8 `[image_size, image_size, channels]`."""
        image = as_seen(image)
        pixels = self._region(to_eight_bit(image.pixels, fitted.get("range", {}), image.valid))
        if self.flat_field and "field" in fitted:
            pixels = _flattened(pixels, np.asarray(fitted["field"], np.float32))
        if self.exposure and "mean" in fitted:
            scaled = (pixels.astype(np.float32) - fitted["mean"]) * (_STD / max(fitted["std"], 1.0)) + _MEAN
            pixels = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
        if self.clahe is not None:
            pixels = np.stack([equalised(pixels[..., c], self.clahe) for c in range(pixels.shape[2])], axis=2)
        return centre_square(with_channels(pixels, self.channels), self.image_size, squash=self.squash)

    def box(self, image: Image) -> tuple[float, float, float, float]:
        """Returns the centre of the region; see `Kind`."""
        top, left = (0, 0) if self.roi is None else self.roi[:2]
        height, width = self._region(image.pixels).shape[:2]
        inner = centre_box(height, width, self.image_size, squash=self.squash)
        return inner[0] + top, inner[1] + left, inner[2] + top, inner[3] + left

    def _region(self, pixels: NDArray[Any]) -> NDArray[Any]:
        if self.roi is None:
            return pixels
        top, left, height, width = self.roi
        if top + height > pixels.shape[0] or left + width > pixels.shape[1]:
            raise DataError(
                f"frame of {pixels.shape[0]} x {pixels.shape[1]} pixels does not contain the region"
                f" [top, left, height, width] = {list(self.roi)}"
            )
        return pixels[top : top + height, left : left + width]


def _smooth(field: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the 3 x 3 mean, edges repeated: what is left of single defects in the illumination map."""
    padded = np.pad(field, 1, mode="edge")
    return sum(padded[i : i + _FIELD, j : j + _FIELD] for i in range(3) for j in range(3)) / 9  # type: ignore[return-value]


def _flattened(pixels: NDArray[np.uint8], field: NDArray[np.float32]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    light = np.asarray(Pillow.fromarray(field).resize((width, height), Pillow.Resampling.BICUBIC))[..., None]
    return np.rint(np.clip(pixels / np.maximum(light, 0.05), 0, 255)).astype(np.uint8)


def equalised(grey: NDArray[np.uint8], limit: float, tiles: int = 8) -> NDArray[np.uint8]:
    """Returns a contrast-limited adaptive histogram equalisation of uint8 `[H, W]`.

    Each tile's histogram is clipped at `limit` times its mean count, the excess spread evenly, and the mappings
    of the four nearest tiles are interpolated. Zuiderveld, Graphics Gems IV (1994), VIII.5.
    """
    height, width = grey.shape
    rows, columns = min(tiles, height), min(tiles, width)
    maps = np.empty((rows, columns, _BINS), np.float32)
    for i, band in enumerate(np.array_split(grey, rows, axis=0)):
        for j, tile in enumerate(np.array_split(band, columns, axis=1)):
            histogram = np.bincount(tile.ravel(), minlength=_BINS).astype(np.float64)
            ceiling = limit * tile.size / _BINS
            excess = np.maximum(histogram - ceiling, 0).sum()
            clipped = np.minimum(histogram, ceiling) + excess / _BINS
            maps[i, j] = np.cumsum(clipped) * (255.0 / tile.size)
    y0, y1, fy = _neighbours(height, rows)
    x0, x1, fx = _neighbours(width, columns)
    upper = maps[y0[:, None], x0, grey] * (1 - fx) + maps[y0[:, None], x1, grey] * fx
    lower = maps[y1[:, None], x0, grey] * (1 - fx) + maps[y1[:, None], x1, grey] * fx
    return np.rint(np.clip(upper * (1 - fy[:, None]) + lower * fy[:, None], 0, 255)).astype(np.uint8)


def _neighbours(length: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    place = np.clip((np.arange(length) + 0.5) * count / length - 0.5, 0, count - 1)
    before = np.floor(place).astype(np.intp)
    return before, np.minimum(before + 1, count - 1), (place - before).astype(np.float32)

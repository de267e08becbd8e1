"""One decoded image, before any preprocessing."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import DataError


class Box(NamedTuple):
    """Where a part of an image lies in it [pixel]."""

    top: int
    left: int
    height: int
    width: int

    @property
    def size(self) -> int:
        """How many pixels it has."""
        return self.height * self.width


class Frame(Protocol):
    """An image of which parts can be had: one that is decoded, or a file that is read window by window."""

    @property
    def height(self) -> int:
        """Rows [pixel]."""

    @property
    def width(self) -> int:
        """Columns [pixel]."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the file says of itself, as in `Image`."""

    def cut(self, box: Box) -> "Image":
        """Returns a part, which lies wholly inside."""


@dataclass(frozen=True)
class Image:
    """Pixels as the file means them, and what the file says of itself.

    Attributes:
        pixels: `[H, W, C]`, in the file's own dtype; float32 where the file itself states a slope and an offset,
            which are applied. Nothing is windowed, inverted, stretched or rounded by a reader.
        mode: what the channels are: `grey`, `rgb`, `bands`, `hu`.
        facts: what preprocessing may need (pixel spacing, band names, nodata, ...); JSON types only, never
            a name, a path or an identifier of a person. `alpha`: the channel, from 0, that the file marks as
            transparency, as it is stored; `white_is_zero`: the least value is shown white; `assumed`: what the
            file does not say and the reader took for granted.
        valid: bool `[H, W]`, False where the file itself says there is no data (nodata, masks), and where a channel is
            no finite number, whoever made the image; None: all valid.
    """

    pixels: NDArray[Any]
    mode: str
    facts: dict[str, Any] = field(default_factory=dict)
    valid: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        """Takes pixels that are no finite number out of `valid`: NaN is how many programs write nodata."""
        if self.pixels.dtype.kind == "f":
            finite = np.isfinite(self.pixels).all(axis=2)
            if not finite.all():
                object.__setattr__(self, "valid", finite if self.valid is None else self.valid & finite)

    @property
    def height(self) -> int:
        """Rows [pixel]."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns [pixel]."""
        return int(self.pixels.shape[1])

    def cut(self, box: Box) -> "Image":
        """Returns a part, with its own `bounds` where the facts have them."""
        rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
        facts = dict(self.facts)
        if "bounds" in facts:
            facts["bounds"] = bounds_of(facts["bounds"], self.height, self.width, box)
        valid = None if self.valid is None else self.valid[rows, columns]
        return replace(self, pixels=self.pixels[rows, columns], facts=facts, valid=valid)


def check_second(first: Image, second: Image) -> None:
    """Checks that two images of one place lie on one grid, as far as their files say.

    Raises:
        DataError: size, channels, dtype, coordinate system or extent differ.
    """
    one, other = first.pixels.shape, second.pixels.shape
    if one != other:
        raise DataError(
            f"second image has {' x '.join(map(str, other))} pixels and channels, the first"
            f" {' x '.join(map(str, one))}. Bring both to one grid"
        )
    if first.pixels.dtype != second.pixels.dtype:
        raise DataError(
            f"second image has pixels of {second.pixels.dtype}, the first of {first.pixels.dtype}. Save both alike"
        )
    here, there = first.facts.get("bounds"), second.facts.get("bounds")
    if here is None or there is None:
        return
    size = max(abs(here[2] - here[0]), abs(here[3] - here[1]))
    if first.facts.get("crs") != second.facts.get("crs") or not np.allclose(here, there, rtol=0, atol=1e-6 * size):
        raise DataError(
            f"second image covers {there} in {second.facts.get('crs')}, the first {here} in {first.facts.get('crs')}"
            " (left, bottom, right, top). Bring both to one grid"
        )


def bounds_of(bounds: list[float], height: int, width: int, box: Box) -> list[float]:
    """Returns left, bottom, right, top of a part of a north-up raster.

    >>> bounds_of([0.0, 0.0, 100.0, 50.0], 5, 10, Box(1, 2, 2, 3))
    [20.0, 20.0, 50.0, 40.0]
    """
    left, bottom, right, top = bounds
    across, down = (right - left) / width, (top - bottom) / height
    return [
        left + box.left * across,
        top - (box.top + box.height) * down,
        left + (box.left + box.width) * across,
        top - box.top * down,
    ]

"""Pixels of any depth and number of channels -> uint8 squares: what several kinds share."""

import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from isthmus.core.errors import DataError
from isthmus.data.image import Image
from isthmus.data.imaging.quantiles import quantiles

LOW, HIGH = 0.005, 0.995  # quantiles of a domain's training pixels that become 0 and 255
_GAP = 2.0  # [of the output] that blocks of a large image are averaged to first: a third of the time of resizing
_MARKS = ("alpha", "premultiplied", "white_is_zero")  # facts that say how stored values are shown
_QUANTILES = 257  # kept of each image, so that memory grows by a kilobyte an image and not with its pixels

_PILLOWS_LIMIT = threading.Lock()  # the limit is one for all threads, and `isthmus serve` decodes in several


class DepthFit:
    """Collects the range of one domain's deep (not 8-bit) training images, one range for each dtype."""

    def __init__(self) -> None:
        self._quantiles: dict[str, list[NDArray[np.float64]]] = {}

    def watch(self, images: Iterable[Image]) -> Iterable[Image]:
        """Passes the images through and remembers the quantiles of those that are not uint8."""
        for image in images:
            if image.pixels.dtype != np.uint8:
                values = image.pixels if image.valid is None else image.pixels[image.valid]
                values = values[np.isfinite(values)] if values.dtype.kind == "f" else values.ravel()
                if values.size:
                    steps = quantiles(values, np.linspace(0, 1, _QUANTILES))
                    self._quantiles.setdefault(image.pixels.dtype.name, []).append(steps)
            yield image

    def ranges(self) -> dict[str, list[float]]:
        """Returns dtype -> `[low, high]`: LOW and HIGH quantiles, each image weighing the same."""
        return {
            dtype: [float(v) for v in np.quantile(np.concatenate(steps), [LOW, HIGH])]
            for dtype, steps in sorted(self._quantiles.items())
        }


def as_seen(image: Image) -> Image:
    """Returns an image as a viewer shows it: transparency on white, and white where the least value means white.

    Args:
        image: comes back as it is where its file marks neither.
    """
    facts = {name: value for name, value in image.facts.items() if name not in _MARKS}
    pixels, mode = image.pixels, image.mode
    if (place := image.facts.get("alpha")) is not None:
        colour = np.delete(pixels, place, axis=2)
        pixels = on_white(colour, pixels[..., place : place + 1], image.facts.get("premultiplied", False))
        mode = {1: "grey", 3: "rgb"}.get(pixels.shape[2], "bands")
    if image.facts.get("white_is_zero"):
        pixels = ~pixels if pixels.dtype.kind in "ui" else -pixels  # ~x is the largest less x, and -1 - x where signed
    return image if pixels is image.pixels else replace(image, pixels=pixels, mode=mode, facts=facts)


def on_white(colour: NDArray[Any], alpha: NDArray[Any], premultiplied: bool = False) -> NDArray[Any]:
    """Composites on white: c a + white (1 - a), or c + white (1 - a) where colours are multiplied by alpha already.

    White is the largest value of a whole-number dtype, whose results are rounded, and 1 of floats.

    Args:
        colour: `[H, W, C]`.
        alpha: `[H, W, 1]`, of the same dtype.
        premultiplied: whether the file stores c a.
    """
    if colour.dtype.kind != "u" or colour.dtype.itemsize > 4:
        top = 1.0 if colour.dtype.kind == "f" else float(np.iinfo(colour.dtype).max)
        share = np.clip(alpha / top, 0, 1)
        shown = (colour if premultiplied else colour * share) + top * (1 - share)
        return shown.astype(colour.dtype)
    white = int(np.iinfo(colour.dtype).max)
    c, a = colour.astype(np.uint64), alpha.astype(np.uint64)
    if premultiplied:
        return np.minimum(c + white - a, white).astype(colour.dtype)
    return ((c * a + white * (white - a) + white // 2) // white).astype(colour.dtype)


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Applies the EXIF orientation (CIPA DC-008, tag 274): where row 0 and column 0 of the file lie in the scene."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def without_gaps(pixels: NDArray[Any], valid: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Returns pixels whose missing ones (not valid, or no finite number) are the median of the others, a channel each.

    A median is no zero: a hole is neither black nor bright, and a cast of NaN to an integer is never made, for what it
    gives depends on the machine (C17, 6.3.1.4).

    Args:
        pixels: `[H, W, C]`; come back as they are where nothing is missing.
        valid: bool `[H, W]`; None: all.

    Raises:
        DataError: nothing is there at all.
    """
    there = valid
    if pixels.dtype.kind == "f":
        finite = np.isfinite(pixels).all(axis=2)
        there = finite if there is None else there & finite
    if there is None or there.all():
        return pixels
    if not there.any():
        raise DataError("no pixel of the image has data")
    middle = np.median(pixels[there], axis=0).astype(pixels.dtype)
    return np.where(there[..., None], pixels, middle)


def to_eight_bit(
    pixels: NDArray[Any], ranges: dict[str, list[float]], valid: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """Returns uint8 pixels `[H, W, C]`; uint8 ones of which none is missing come back untouched.

    The range fitted on the domain's training images becomes 0..255. A stray uint16 image in a domain whose
    training images are all 8-bit takes the whole range of its dtype; other dtypes have no natural range.
    Missing pixels (`valid` False, NaN, infinite) are filled as `without_gaps` says.

    Raises:
        DataError: the dtype has no fitted and no natural range.

    >>> to_eight_bit(np.array([[[0], [65535]]], np.uint16), {}).tolist()
    [[[0], [255]]]
    """
    pixels = without_gaps(pixels, valid)
    if pixels.dtype == np.uint8:
        return pixels
    name = pixels.dtype.name
    if name not in ranges and pixels.dtype != np.uint16:
        raise DataError(f"pixels are {name} but no training image of this domain is: no range to scale them to 8 bit")
    low, high = ranges.get(name, [0.0, 65535.0])
    scaled = (pixels.astype(np.float64) - low) * (255.0 / max(high - low, 1e-12))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def with_channels(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Returns `[H, W, channels]`: grey is repeated, RGB becomes luma (ITU-R BT.601, as JPEG has it).

    Raises:
        DataError: there are neither 1 nor 3 channels.
    """
    have = pixels.shape[2]
    if have not in (1, 3):
        raise DataError(
            f"image has {have} channels; this kind takes 1 (grey) or 3 (RGB). 'kind: remote_sensing' takes more"
        )
    if have == 1 and channels == 3:
        return np.repeat(pixels, 3, axis=2)
    if have == 3 and channels == 1:
        return np.asarray(Pillow.fromarray(np.ascontiguousarray(pixels)).convert("L"))[..., None]
    return pixels


def centre_square(
    pixels: NDArray[np.uint8], side: int, crop: float = 1.0, interpolation: str = "bicubic", squash: bool = False
) -> NDArray[np.uint8]:
    """Returns `[side, side, C]`: resized, antialiased, and the centre cut out.

    An image of four times the side and more is averaged in blocks first (Pillow's `reducing_gap`); on photographs that
    moves a pixel by 0.4 grey levels in the mean, and one in a thousand by more than 5.

    Args:
        pixels: uint8 `[H, W, C]`.
        side: [pixel].
        crop: [share] of the short side that is kept, as timm rounds it: side / floor(side / crop).
        interpolation: bicubic, bilinear, lanczos or nearest.
        squash: of both sides that share is kept, and a long image is squeezed.
    """
    height, width, channels = pixels.shape
    top, left, bottom, right = centre_box(height, width, side, crop, squash)
    if (height, width) == (side, side) and (bottom, right) == (side, side):
        return pixels
    squeezed = np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels)
    # box: crop and resize in one pass, so that an odd margin is not rounded to a whole pixel
    square = Pillow.fromarray(squeezed).resize(
        (side, side), Pillow.Resampling[interpolation.upper()], (left, top, right, bottom), reducing_gap=_GAP
    )
    return np.asarray(square).reshape(side, side, channels)


def centre_box(
    height: int, width: int, side: int, crop: float = 1.0, squash: bool = False
) -> tuple[float, float, float, float]:
    """Returns top, left, bottom, right of what `centre_square` keeps of an image [pixel]; arguments as there.

    >>> centre_box(10, 20, 5)
    (0.0, 5.0, 10.0, 15.0)
    """
    kept = side / int(side / crop)
    short = min(height, width)
    tall, wide = (height * kept, width * kept) if squash else (short * kept, short * kept)
    left, top = (width - wide) / 2, (height - tall) / 2
    return top, left, top + tall, left + wide


@contextmanager
def pillow_limit(pixels: int | None) -> Iterator[None]:
    """Has Pillow refuse larger images when it opens a file, for which some of its decoders take memory already.

    Args:
        pixels: the limit; None: no limit.
    """
    with _PILLOWS_LIMIT, warnings.catch_warnings():
        before = Pillow.MAX_IMAGE_PIXELS
        warnings.simplefilter("error", Pillow.DecompressionBombWarning)
        try:
            Pillow.MAX_IMAGE_PIXELS = pixels
            yield
        finally:
            Pillow.MAX_IMAGE_PIXELS = before

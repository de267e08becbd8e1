"""Pixels on one grid -> pixels on another, missing ones never averaged in."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from isthmus.core.errors import DataError

_ENOUGH = 0.5  # [share] of an output pixel's weight that must lie on valid pixels

_FILLED = 0.1  # [share] of the prepared square that an image fills at least

Box = tuple[float, float, float, float]  # top, left, bottom, right [pixel]; may reach beyond the image
# Of one axis: length of the image, start and stop of the box, length of the output.
Line = tuple[int, float, float, int]


def resampled(
    pixels: NDArray[np.float32], valid: NDArray[np.bool_] | None, box: Box, height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Returns `[height, width, C]` of what lies in a box, and where at least half of it was valid.

    Normalised convolution with certainties of 0 and 1 (Knutsson and Westin, CVPR 1993, 515-523, eq. 5):
    out = (sum w m v) / (sum w m), with the weights w of a triangle as wide as two input or two output pixels,
    whichever is wider (linear interpolation one way, antialiasing the other), and m the mask. The triangle and not
    a bicubic kernel, because a kernel with negative weights has sums near zero beside holes. Pixels beyond the
    image are as invalid as nodata ones.
    """
    if (*box, height, width) == (0, 0, *pixels.shape[:2], *pixels.shape[:2]):  # a tile: all weights are one
        known = np.ones((height, width), np.bool_) if valid is None else valid.copy()
        return np.where(known[..., None], pixels, np.float32(0)), known
    rows, columns = (pixels.shape[0], box[0], box[2], height), (pixels.shape[1], box[1], box[3], width)
    down, across = _weights(*rows)[0], _weights(*columns)[0]
    if valid is None:
        total, (weight, enough) = _applied(down, across, pixels), _of_whole(rows, columns)
    else:
        mask = valid.astype(np.float32)[..., None]
        clean = np.where(mask > 0, pixels, np.float32(0))  # a nodata value of 1e38 times 0 may be no number
        both = _applied(down, across, np.concatenate([clean, mask], axis=2))
        total, (weight, enough) = both[..., :-1], _known(rows, columns, both[..., -1:])
    total /= weight
    total[~enough] = 0
    return total, enough.copy()


def middle(height: int, width: int) -> Box:
    """Returns the box of the largest square in the middle of an image.

    >>> middle(10, 20)
    (0.0, 5.0, 10.0, 15.0)
    """
    short = min(height, width)
    top, left = (height - short) / 2, (width - short) / 2
    return top, left, top + short, left + short


def around_middle(height: int, width: int, tall: float, wide: float, option: str) -> Box:
    """Returns the box of `tall` by `wide` pixels about an image's middle; it may be larger than the image.

    Args:
        height: of the image [pixel].
        width: of the image [pixel].
        tall: [pixel].
        wide: [pixel].
        option: of `preprocess`, that says how large a prepared pixel is.

    Raises:
        DataError: the image would fill next to nothing of it, so the option is most likely in another unit.
    """
    filled = min(1.0, height / tall) * min(1.0, width / wide)
    if filled < _FILLED:
        raise DataError(
            f"the image of {height} x {width} pixels would fill {filled:.1%} of the prepared square, which is"
            f" {tall:.0f} x {wide:.0f} of them; at least {_FILLED:.0%} are needed. Lower 'preprocess.{option}', or set"
            f" '{option}: null'"
        )
    return (height - tall) / 2, (width - wide) / 2, (height + tall) / 2, (width + wide) / 2


def _applied(down: Any, across: Any, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns `[height, width, C]` of `[H, W, C]`: weights along the first axis, then along the second."""
    height, width, channels = values.shape
    tall = (down @ values.reshape(height, width * channels)).reshape(-1, width, channels)
    turned = np.ascontiguousarray(tall.swapaxes(0, 1)).reshape(width, -1)
    out: NDArray[np.float32] = (across @ turned).reshape(across.shape[0], -1, channels).swapaxes(0, 1)
    return out


@lru_cache(maxsize=16)
def _of_whole(rows: Line, columns: Line) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Returns `_known` of an image without a hole."""
    ones = np.ones((rows[0], columns[0], 1), np.float32)
    return _known(rows, columns, _applied(_weights(*rows)[0], _weights(*columns)[0], ones))


def _known(rows: Line, columns: Line, weight: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Returns each output pixel's weight on valid pixels `[height, width, 1]`, above 0, and where it is enough."""
    whole = np.outer(_weights(*rows)[1], _weights(*columns)[1])
    return np.maximum(weight, np.float32(1e-12)), weight[..., 0] >= _ENOUGH * whole


# Sparse, for a row has two or three weights; and so that no BLAS starts threads in each worker process.
@lru_cache(maxsize=64)
def _weights(length: int, start: float, stop: float, count: int) -> tuple[Any, NDArray[np.float32]]:
    """Returns sparse weights `[count, length]`, and the weight that each output pixel has on an endless line."""
    scale = (stop - start) / count
    reach = max(scale, 1.0)
    centres = start + (np.arange(count) + 0.5) * scale
    first, last = int(np.floor(start - reach)), int(np.ceil(stop + reach))
    places = np.arange(min(first, 0), max(last, length))
    weights = np.maximum(0, 1 - np.abs(places[None, :] + 0.5 - centres[:, None]) / reach).astype(np.float32)
    return csr_array(weights[:, (places >= 0) & (places < length)]), weights.sum(axis=1)

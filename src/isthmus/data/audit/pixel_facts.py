"""What the pixels of one image say of it before anything is prepared: constant, saturated, its corners."""

from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from isthmus.data.image import Image

_CORNER = 8  # a corner patch is this part of the shorter side
_LEAST_BITS = 8  # of a sensor: a dark 8-bit image saturates at 255 all the same


class PixelFacts(NamedTuple):
    """Facts of one image.

    `saturated` is the share of valid pixels at the top of the range [share], None for floats, which have no top.
    `corners` is float32 `[8]`: mean and standard deviation of grey in each of the four corners.
    """

    constant: bool
    saturated: float | None
    corners: NDArray[np.float32]


def pixel_facts(image: Image) -> PixelFacts:
    """Returns the facts of an image; pixels without data count for nothing."""
    pixels = image.pixels if image.valid is None else image.pixels[image.valid]
    finite = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
    if finite.size == 0:
        return PixelFacts(True, None, _corners(image))
    highest = finite.max()
    saturated = _saturated(pixels, int(highest)) if pixels.dtype.kind in "iu" else None
    return PixelFacts(bool(highest == finite.min()), saturated, _corners(image))


def _saturated(pixels: NDArray[np.generic], highest: int) -> float:
    """Returns the share of pixels with a channel at the sensor's top.

    Files seldom say how many bits a sensor has; a 12-bit one in a 16-bit file stops at 4095. The top is taken to be
    the least 2^k - 1, k from 8, that no pixel exceeds.
    """
    top = 2 ** max(_LEAST_BITS, highest.bit_length()) - 1
    if highest < top:
        return 0.0
    at_top = pixels == top
    # channel by channel: `any` over an axis of three takes ten times as long, more than decoding the photograph
    saturated = reduce(np.logical_or, np.moveaxis(at_top, -1, 0))
    return round(float(np.count_nonzero(saturated)) / saturated.size, 6)


def _corners(image: Image) -> NDArray[np.float32]:
    height, width, channels = image.pixels.shape
    side = max(1, min(height, width) // _CORNER)
    patches = np.stack([image.pixels[rows, columns] for rows in _ends(side) for columns in _ends(side)])
    if patches.dtype.kind in "iu" and patches.dtype.itemsize <= 4:
        # whole numbers give the same sum in any order, and channel by channel it takes a third of the time
        grey = reduce(np.add, np.moveaxis(patches.astype(np.float64), -1, 0)) / channels
    else:
        grey = np.nan_to_num(patches.mean(axis=3, dtype=np.float64), posinf=0, neginf=0)
    grey = grey.reshape(4, -1)
    return np.stack([grey.mean(axis=1), grey.std(axis=1)], axis=1).astype(np.float32).ravel()


def _ends(side: int) -> tuple[slice, slice]:
    return slice(None, side), slice(-side, None)


def pixel_summary(images: pd.DataFrame, above: float) -> dict[str, Any]:
    """Returns domain -> `constant` and `saturated` (ids of offenders, sorted) and what the saturated shares are like.

    `saturated_median` and `saturated_highest` are shares of pixels, None where no image has a top of its range.

    Args:
        images: columns `image_id, domain, constant, saturated`.
        above: an image with a larger share of saturated pixels is an offender [share].
    """
    out: dict[str, Any] = {}
    for domain, rows in images.groupby("domain"):
        shares = rows["saturated"].astype(float)
        known = not shares.isna().all()
        out[str(domain)] = {
            "constant": sorted(rows.loc[rows["constant"], "image_id"]),
            "saturated": sorted(rows.loc[shares > above, "image_id"]),
            "saturated_median": round(float(shares.median()), 4) if known else None,
            "saturated_highest": round(float(shares.max()), 4) if known else None,
        }
    return out

"""What the pixels of one image say of it before anything is prepared: constant, saturated, its corners."""

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
    constant = finite.size == 0 or bool(finite.max() == finite.min())
    return PixelFacts(constant, _saturated(pixels), _corners(image))


def _saturated(pixels: NDArray[np.generic]) -> float | None:
    """Returns the share of pixels with a channel at the sensor's top.

    Files seldom say how many bits a sensor has; a 12-bit one in a 16-bit file stops at 4095. The top is taken to be
    the least 2^k - 1, k from 8, that no pixel exceeds.
    """
    if pixels.dtype.kind not in "iu" or pixels.size == 0:
        return None
    top = 2 ** max(_LEAST_BITS, int(pixels.max()).bit_length()) - 1
    return round(float((pixels == top).any(axis=-1).mean()), 6)


def _corners(image: Image) -> NDArray[np.float32]:
    height, width = image.pixels.shape[:2]
    side = max(1, min(height, width) // _CORNER)
    patches = [image.pixels[rows, columns] for rows in _ends(side) for columns in _ends(side)]
    greys = [np.nan_to_num(patch.mean(axis=2, dtype=np.float64), posinf=0, neginf=0) for patch in patches]
    return np.array([value for grey in greys for value in (grey.mean(), grey.std())], np.float32)


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

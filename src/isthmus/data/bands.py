"""Which band of an image is meant: by place, by name, by wavelength, and indices that are made of bands."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import DataError
from isthmus.data.image import Image

TOLERANCE = 40.0  # [nm]: Sentinel-2 has its near infrared at 842, Landsat 8 at 865
_WAVELENGTH = re.compile(r"(\d+(?:\.\d+)?) ?nm")
# Normalised differences (a - b) / (a + b). NDVI: Rouse et al., 3rd ERTS Symposium, NASA SP-351 (1974) 309-317.
# NDWI: McFeeters, Int. J. Remote Sensing 17 (1996) 1425-1432.
INDICES = {"ndvi": ("nir", "red"), "ndwi": ("green", "nir")}
COLOURS = {"red": "red|665nm", "green": "green|560nm", "nir": "nir|842nm"}


def find_band(wanted: int | str, image: Image) -> int:
    """Returns the place of a band from 0.

    Args:
        wanted: its number from 1 as GDAL counts, its name, its wavelength such as `842nm`, or several of these with
            `|` between them, of which the first that the image has is taken: two sensors rarely use one name.
        image: whose `facts` hold `bands` and `wavelengths_nm`.

    Raises:
        DataError: the image has no such band.
    """
    count = image.pixels.shape[2]
    names = [str(name) for name in image.facts.get("bands", [])]
    if not any(names) and image.mode == "rgb":
        names = ["red", "green", "blue"]
    waves: list[float | None] = image.facts.get("wavelengths_nm", [])
    for one in str(wanted).lower().split("|"):
        place = _find(one.strip(), count, names, waves)
        if place is not None:
            return place
    has = ", ".join(_described(place, names, waves) for place in range(count))
    raise DataError(f"no band '{wanted}'. There are: {has}")


def _find(wanted: str, count: int, names: Sequence[str], waves: Sequence[float | None]) -> int | None:
    if wanted.isdigit():
        return int(wanted) - 1 if 1 <= int(wanted) <= count else None
    if match := _WAVELENGTH.fullmatch(wanted):
        nearest = sorted((abs(wave - float(match.group(1))), place) for place, wave in enumerate(waves) if wave)
        return nearest[0][1] if nearest and nearest[0][0] <= TOLERANCE else None
    return names.index(wanted) if wanted in names else None


def _described(place: int, names: Sequence[str], waves: Sequence[float | None]) -> str:
    name = f" {names[place]}" if place < len(names) and names[place] else ""
    wave = f" {waves[place]:g}nm" if place < len(waves) and waves[place] else ""
    return f"{place + 1}{name}{wave}"


def normalised_difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns (a - b) / (a + b), clipped to [-1, 1]; 0 where the sum is not positive.

    >>> normalised_difference(np.float32([0.4]), np.float32([0.1])).round(3)
    array([0.6], dtype=float32)
    """
    total = a + b
    ratio = (a - b) / np.where(total > 0, total, 1)
    return np.where(total > 0, np.clip(ratio, -1, 1), 0).astype(np.float32)

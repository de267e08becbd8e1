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
_EDGES = 0.02  # [share] of pixels that a mask may show half, along its smoothed edges
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
    count, names, waves = image.pixels.shape[2], _names(image), image.facts.get("wavelengths_nm", [])
    for one in str(wanted).lower().split("|"):
        place = _find(one.strip(), count, names, waves)
        if place is not None:
            return place
    raise DataError(f"no band '{wanted}'. There are: {band_list(image)}")


def band_list(image: Image) -> str:
    """Returns the bands of an image as messages list them: number, name and wavelength."""
    names, waves = _names(image), image.facts.get("wavelengths_nm", [])
    return ", ".join(_described(place, names, waves) for place in range(image.pixels.shape[2]))


def without_transparency(image: Image, bands: Sequence[int | str] | None) -> Image:
    """Returns an image whose band of transparency, where it truly is one, is taken out of the bands and into `valid`.

    Programs mark the fourth of four 8-bit bands as transparency whatever it holds (GDAL by default), so the mark alone
    says nothing, and near infrared is 0 over water. It is believed where the band holds hardly anything but its dtype's
    0 and maximum, the other bands have one colour wherever it is 0, and `bands` does not ask for it.

    Args:
        image: unchanged where no band is marked as transparency, or the mark is implausible.
        bands: those that are asked for; None: all.
    """
    place = image.facts.get("alpha")
    if place is None or any(find_band(band, image) == place for band in bands or []):
        return image
    marked, others = image.pixels[..., place], np.delete(image.pixels, place, axis=2)
    clear, full = marked == 0, marked == (1 if marked.dtype.kind == "f" else np.iinfo(marked.dtype).max)
    one_colour = not clear.any() or bool((others[clear] == others[clear][0]).all())
    if not one_colour or 1 - (clear.mean() + full.mean()) > _EDGES:
        return image
    facts = {name: value for name, value in image.facts.items() if name not in ("alpha", "premultiplied")}
    for name in ("bands", "wavelengths_nm"):
        if name in facts:
            facts[name] = [value for number, value in enumerate(facts[name]) if number != place]
    valid = ~clear if image.valid is None else image.valid & ~clear
    mode = {1: "grey", 3: "rgb"}.get(others.shape[2], "bands")
    return Image(others, mode, facts, None if valid.all() else valid)


def _names(image: Image) -> list[str]:
    names = [str(name) for name in image.facts.get("bands", [])]
    return ["red", "green", "blue"] if not any(names) and image.mode == "rgb" else names


def _find(wanted: str, count: int, names: Sequence[str], waves: Sequence[float | None]) -> int | None:
    if wanted.isdigit():
        return int(wanted) - 1 if 1 <= int(wanted) <= count else None
    if match := _WAVELENGTH.fullmatch(wanted):
        nearest = sorted((abs(wave - float(match.group(1))), place) for place, wave in enumerate(waves) if wave)
        return nearest[0][1] if nearest and nearest[0][0] <= TOLERANCE else None
    if wanted in names:
        return names.index(wanted)
    alike = [place for place, name in enumerate(names) if name and _plain(name) == _plain(wanted)]
    return alike[0] if len(alike) == 1 else None


def _plain(name: str) -> str:
    """Returns a band's name without what is written one way or the other.

    >>> _plain("B04"), _plain("band_4"), _plain("b8a"), _plain("SR_B4")
    ('b4', 'b4', 'b8a', 'srb4')
    """
    joined = re.sub(r"[\s_.-]+", "", name.lower()).replace("band", "b")
    return re.sub(r"(?<!\d)0+(?=\d)", "", joined)


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

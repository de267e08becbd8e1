"""GeoTIFF and COG through rasterio: all bands in their own dtype, nodata and masks in `valid`, places in `facts`.

What is not obvious: the driver is named, because GDAL opens by content and a `.tif` that holds VRT XML would read
any file of this machine; files beside the image (`.aux.xml`, `.msk`, `.ovr`) are not opened, because an image is
identified by its own bytes; a scene longer than `LONGEST` on a side comes as windows, so that it is never whole in
memory; the last window of a row or column is moved back to full size and overlaps its neighbour.

`.tif` belongs to `image.py` unless `data/tiff.py` finds a raster in it; `readers.reader_for` decides.
"""

import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import DataError
from isthmus.data.image import Image
from isthmus.data.readers import Reader
from isthmus.data.reasons import reason_for, without_path
from isthmus.data.slices import Slice

LONGEST = 2048  # [pixel] of a side that is read at once
WINDOW = 1024  # [pixel] of a side of a window of a longer scene
_MAX_WINDOWS = 4096
_MAX_BYTES = 2**30  # of one part, and of one block of the file: GDAL decodes whole blocks
_METRES_PER_DEGREE = 111_320.0  # along a meridian: 40,075 km / 360
_ENVIRONMENT = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO", "GDAL_NUM_THREADS": "1"}
_COLOURS = ("red", "green", "blue")


class FileReader(Reader):
    """Decodes with GDAL's GTiff driver alone."""

    suffixes: ClassVar[frozenset[str]] = frozenset({".geotiff", ".gtiff"})

    def parts(self, path: Path) -> list[str]:
        """Returns `[""]`, or one name a window: `["0-0", "0-1024"]`, row and column of its upper left corner."""
        with _opened(path) as scene:
            if max(scene.height, scene.width) <= LONGEST:
                return [""]
            rows, columns = _starts(scene.height), _starts(scene.width)
            if len(rows) * len(columns) > _MAX_WINDOWS:
                raise DataError(
                    f"too many pixels ({scene.width} x {scene.height}); the limit is {_MAX_WINDOWS} windows"
                )
            return [f"{row}-{column}" for row in rows for column in columns]

    def read(self, path: Path, part: str) -> Image:
        """Decodes one scene or window, `[H, W, C]`: the stored dtype, or float32 where a scale and offset apply."""
        from rasterio.windows import Window

        with _opened(path) as scene:
            row, _, column = part.partition("-")
            top, left = int(row or 0), int(column or 0)
            window = Window(left, top, _length(scene.width, part), _length(scene.height, part))
            bands = [b for b, c in zip(scene.indexes, scene.colorinterp, strict=True) if c.name != "alpha"]
            pixels = np.moveaxis(scene.read(bands, window=window), 0, -1)
            valid = scene.read_masks(bands, window=window).all(axis=0)
            pixels = _coloured(scene, pixels)
            scales = [(scene.scales[b - 1], scene.offsets[b - 1]) for b in bands]
            if any(pair != (1.0, 0.0) for pair in scales):
                slope, offset = np.array(scales).T
                pixels = (pixels * slope + offset).astype(np.float32)
            if pixels.dtype.kind == "f":
                valid &= np.isfinite(pixels).all(axis=2)
            mode = _mode(scene, bands, pixels)
            return Image(
                np.ascontiguousarray(pixels), mode, _facts(scene, bands, window), None if valid.all() else valid
            )

    def slice_of(self, path: Path, part: str) -> Slice | None:
        """Returns None: a raster is a slice of nothing."""
        return None

    def person(self, path: Path, key: bytes | None) -> str | None:
        """Returns None: a raster names nobody."""
        return None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with warnings.catch_warnings(), rasterio.Env(**_ENVIRONMENT):
            warnings.simplefilter("ignore")  # a raster without georeference is one
            with rasterio.open(path.absolute(), driver="GTiff") as scene:
                _check(scene)
                yield scene
    except DataError:
        raise
    except MemoryError:
        raise DataError("too large for the memory of this machine") from None
    except RasterioError as error:
        raise DataError(_reason(path, error)) from None
    except Exception as error:  # a hostile file makes a decoder raise nearly anything; each of it means: unreadable
        raise DataError(reason_for(path, error, "a GeoTIFF")) from None


def _reason(path: Path, error: Exception) -> str:
    reason = reason_for(path, error, "a GeoTIFF")
    with path.open("rb") as stream:
        head = stream.read(64)
    if b"<VRTDataset" in head:
        return "content is a GDAL VRT, which names pixels of other files: refused"
    if not reason.startswith("cannot be decoded"):
        return reason
    if head[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return f"not a GeoTIFF: unknown content, begins with {head[:8].hex(' ')}"
    # GDAL's own words are in the first cause; rasterio's say no more than 'read failed, see previous exception'
    causes = [str(cause) for cause in _causes(error)]
    return f"file is truncated or damaged ({without_path(causes[-1], path)})"


def _causes(error: BaseException) -> list[BaseException]:
    below = error.__cause__ or error.__context__
    return [error, *(_causes(below) if below is not None else [])]


def _check(scene: Any) -> None:
    complex_ones = sorted({name for name in scene.dtypes if name.startswith("complex")})
    if complex_ones:
        raise DataError(f"pixels are {complex_ones[0]} numbers. Save amplitude or phase as real bands")
    item = max(np.dtype(name).itemsize for name in scene.dtypes)
    part = min(scene.height, LONGEST) * min(scene.width, LONGEST) * scene.count * item
    block = max(height * width for height, width in scene.block_shapes) * item
    if scene.interleaving is not None and scene.interleaving.name == "pixel":
        block *= scene.count
    if max(part, block) > _MAX_BYTES:
        raise DataError(
            f"too large to decode ({scene.width} x {scene.height}, {scene.count} bands, blocks of"
            f" {scene.block_shapes[0][1]} x {scene.block_shapes[0][0]}); the limit is {_MAX_BYTES} bytes at once"
        )


def _starts(length: int) -> list[int]:
    """Returns where windows begin along a side; the last one ends with the side.

    >>> _starts(2500)
    [0, 1024, 1476]
    """
    if length <= WINDOW:
        return [0]
    return [min(start, length - WINDOW) for start in range(0, length, WINDOW)]


def _length(side: int, part: str) -> int:
    return min(side, WINDOW) if part else side


def _coloured(scene: Any, pixels: NDArray[Any]) -> NDArray[Any]:
    """Returns RGB of a band that holds numbers of colours, anything else as it is."""
    if pixels.shape[2] != 1 or pixels.dtype != np.uint8 or scene.colorinterp[0].name != "palette":
        return pixels
    table = np.zeros((256, 3), np.uint8)
    for number, colour in scene.colormap(1).items():
        table[number] = colour[:3]
    return table[pixels[..., 0]]


def _mode(scene: Any, bands: list[int], pixels: NDArray[Any]) -> str:
    if pixels.shape[2] == 1:
        return "grey"
    names = tuple(scene.colorinterp[b - 1].name for b in bands)
    return "rgb" if pixels.shape[2] == 3 and (names == _COLOURS or len(bands) == 1) else "bands"


def _facts(scene: Any, bands: list[int], window: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"bands": _names(scene, bands)}
    wavelengths = [_wavelength(scene, band) for band in bands]
    if any(wavelengths):
        facts["wavelengths_nm"] = wavelengths
    if scene.crs is not None:
        code = scene.crs.to_epsg()
        facts["crs"] = f"EPSG:{code}" if code else scene.crs.to_wkt()
        facts["bounds"] = [float(v) for v in scene.window_bounds(window)]
        if distance := _ground_distance(scene):
            facts["gsd_m"] = distance
    return facts


def _names(scene: Any, bands: list[int]) -> list[str]:
    """Returns a name a band: its description, else its colour, else an empty text."""
    names = []
    for band in bands:
        colour = scene.colorinterp[band - 1].name
        names.append((scene.descriptions[band - 1] or (colour if colour in (*_COLOURS, "nir") else "")).strip().lower())
    return names


def _wavelength(scene: Any, band: int) -> float | None:
    """Returns a band's centre [nm]: GDAL's IMAGERY domain, or a tag `wavelength` with or without its unit."""
    if text := scene.tags(band, ns="IMAGERY").get("CENTRAL_WAVELENGTH_UM"):
        return _number(text, 1000.0)
    tags = {name.lower(): value for name, value in scene.tags(band).items()}
    text = tags.get("wavelength") or tags.get("wavelength_nm") or ""
    unit = (tags.get("wavelength_units") or tags.get("wavelength_unit") or text).lower()
    value = _number(text, 1.0)
    # no band of an imager lies under 100 nm, and none over 100 um: a bare number says its unit by its size
    micrometres = value is not None and ("um" in unit or "micro" in unit or value < 100)
    return round(value * 1000, 3) if value is not None and micrometres else value


def _number(text: str, scale: float) -> float | None:
    found = re.match(r"\s*([0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)", text)
    value = float(found.group(1)) * scale if found else math.nan
    return round(value, 3) if math.isfinite(value) and value > 0 else None


def _ground_distance(scene: Any) -> list[float]:
    """Returns the distance between rows and between columns on the ground [m/pixel], empty where it is unknown."""
    t = scene.transform
    down, across = math.hypot(t.b, t.e), math.hypot(t.a, t.d)
    if not (math.isfinite(down) and math.isfinite(across) and down > 0 and across > 0):
        return []
    if scene.crs.is_geographic:
        latitude = math.radians((scene.bounds.top + scene.bounds.bottom) / 2)
        return [down * _METRES_PER_DEGREE, across * _METRES_PER_DEGREE * max(math.cos(latitude), 1e-6)]
    factor = scene.crs.linear_units_factor[1] if scene.crs.is_projected else 0.0
    return [down * factor, across * factor] if factor > 0 else []

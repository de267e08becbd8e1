"""Rasters through rasterio: all bands in their own dtype, nodata and masks in `valid`, places in `facts`.

GeoTIFF, COG and JPEG 2000; TIFF pictures of which Pillow would lose something; JPEG of more than 8 bits; and TIFF, PNG,
JPEG and BMP of so many pixels that they are read window by window. `readers.reader_for` decides by the content.

What is not obvious: the driver is named by the content, because GDAL would try all it has and a `.tif` that holds VRT
XML would read any file of this machine; files beside the image (`.aux.xml`, `.msk`, `.ovr`) are not opened, because an
image is identified by its own bytes; a scene longer than `LONGEST` on a side comes as windows, so that it is never
whole in memory; the last window of a row or column is moved back to full size and overlaps its neighbour. A band that
is marked as transparency stays a band, with its place in `facts`: programs mark near infrared so by default.
"""

import logging
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from isthmus.core.errors import DataError
from isthmus.data.bounds import DEFAULT, Bounds, Declared, check_declared
from isthmus.data.formats import tiff
from isthmus.data.formats.ground import ground_distance
from isthmus.data.formats.image_headers import head_of
from isthmus.data.image import Box, Image
from isthmus.data.imaging.pixels import pillow_limit, upright
from isthmus.data.read_errors import reason_for, without_path
from isthmus.data.readers import Reader, require
from isthmus.data.slices import Slice

LONGEST = 2048  # [pixel] of a side that is read at once
WINDOW = 1024  # [pixel] of a side of a window of a longer scene
_ENVIRONMENT = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_NUM_THREADS": "1",
    "GDAL_CACHEMAX": 2**28,  # [byte] of decoded blocks, which the tiles of a row share
}
_ENTERED: ContextVar[bool] = ContextVar("_ENTERED", default=False)  # to enter GDAL's settings costs 0.4 ms
_DRIVERS = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP", b"\0\0\0\x0cjP  ": "JP2OpenJPEG",
            b"\xff\x4f\xff\x51": "JP2OpenJPEG"}  # fmt: skip
_NAMES = {"GTiff": "a TIFF", "JP2OpenJPEG": "a JPEG 2000 file", "PNG": "a PNG", "JPEG": "a JPEG", "BMP": "a BMP"}
_COLOURS = ("red", "green", "blue")
_LYING = (5, 6, 7, 8)  # orientations whose rows are the picture's columns
_ORIENTATION = 0x0112  # EXIF tag
_PICTURE = 4  # bands; more are no picture
_MOST_WHOLE = 2**30  # [byte] of a picture that is kept decoded for its tiles
_LEAST_POINTS = 3  # ground control points that fix a plane
_COLOUR_TABLE = {"uint8": 2**8, "uint16": 2**16}  # entries


class _Place(NamedTuple):
    """What a part's name says: `''`, page `'2'`, window `'0-1024'`, both `'2:0-1024'`."""

    page: str
    corner: tuple[int, int] | None  # top, left

    @classmethod
    def of(cls, part: str) -> "_Place":
        page, _, window = part.rpartition(":") if "-" in part else (part, "", "")
        top, _, left = window.partition("-")
        return cls(page, (int(top), int(left)) if window else None)


class FileReader(Reader):
    """Decodes with GDAL, one driver for each mark that a file begins with."""

    suffixes: ClassVar[frozenset[str]] = frozenset(
        {".geotiff", ".gtiff", ".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"}
    )

    def parts(self, path: Path, bounds: Bounds = DEFAULT, frames: bool = False) -> list[str]:
        """Returns `[""]`, a name a page, or one a window: row and column of its corner, as in `["0-0", "0-1024"]`."""
        with _reasons(path):
            return _parts(path, bounds, frames)

    def read(self, path: Path, part: str, bounds: Bounds = DEFAULT) -> Image:
        """Decodes one picture, scene or window, `[H, W, C]`: as stored, or float32 where scale and offset apply."""
        return self._read(path, part, bounds)

    def numbers(self, path: Path, part: str, bounds: Bounds = DEFAULT) -> NDArray[Any]:
        """Decodes the values of a picture, scene or window without its table of colours."""
        return self._read(path, part, bounds, colours=False).pixels

    def _read(self, path: Path, part: str, bounds: Bounds, colours: bool = True) -> Image:
        place, size = _Place.of(part), path.stat().st_size
        check_declared(Declared(*_declared_size(path), 1, 0, 0), size, bounds)
        with _reasons(path), closing(Scene(path, place.page, colours)) as scene:
            check_declared(scene.declared(1, whole=place.corner is None), size, bounds)
            if place.corner is None:
                return scene.cut(Box(0, 0, scene.height, scene.width))
            return scene.cut(Box(*place.corner, min(scene.height, WINDOW), min(scene.width, WINDOW)))

    def frame(self, path: Path, part: str, bounds: Bounds = DEFAULT) -> "Scene":
        """Returns an image that is read window by window."""
        scene = Scene(path, _Place.of(part).page)
        check_declared(scene.declared(1, whole=False), path.stat().st_size, bounds)
        return scene

    def slice_of(self, path: Path, part: str) -> Slice | None:
        """Returns None: a raster is a slice of nothing."""
        return None

    def person(self, path: Path, key: bytes | None) -> str | None:
        """Returns None: a raster names no person."""
        return None


class Scene:
    """One image of a file that GDAL has open."""

    def __init__(self, path: Path, page: str, colours: bool = True) -> None:
        """Opens the file, or one page of a TIFF.

        Args:
            path: of the file.
            page: of a TIFF.
            colours: whether numbers of a palette become its colours, and bits black and white.

        Raises:
            DataError: with the reason why it cannot be opened.
        """
        self._path, self._colours = path, colours
        with _reasons(path):
            import rasterio

            self._page = tiff.image_at(path, page)[1] if tiff.is_tiff(path) and tiff.pages_of(path) else None
            self._data = rasterio.open(_address(path, self._page), driver=_driver(path))
            if complex_ones := sorted({name for name in self._data.dtypes if name.startswith("complex")}):
                raise DataError(f"pixels are {complex_ones[0]} numbers. Save amplitude or phase as real bands")
            self._orientation = self._page.orientation if self._page else _exif_orientation(path)
            if self.is_map:
                self._orientation = 1  # a map's own geotransform says where its rows lie
            self._names = [colour.name for colour in self._data.colorinterp]
            self._is_bits = self._data.tags(1, ns="IMAGE_STRUCTURE").get("NBITS") == "1"
            white_is_zero = self._page is not None and self._page.photometric == tiff.WHITE_IS_ZERO
            self._white_is_zero = white_is_zero and not self._is_bits
            if self._white_is_zero:
                self._names[0] = "gray"  # GDAL makes a table of colours for it, which would turn the values over
            self._crs, self._transform = self._georeference()
            self._whole: Image | None = None
            # PNG and JPEG are decoded from their first row on: a picture that lies on its side or head would be
            # decoded once for each of its tiles
            size = self._data.height * self._data.width * self._data.count * np.dtype(self._data.dtypes[0]).itemsize
            sequential = self._data.driver in ("PNG", "JPEG") and self._orientation not in (1, 2)
            self._against_rows = sequential and size <= _MOST_WHOLE

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the file says of itself, as in `Image`."""
        with _reasons(self._path):
            return self._facts()

    @property
    def height(self) -> int:
        """Rows [pixel], the right way up."""
        return int(self._data.width if self._orientation in _LYING else self._data.height)

    @property
    def width(self) -> int:
        """Columns [pixel], the right way up."""
        return int(self._data.height if self._orientation in _LYING else self._data.width)

    @property
    def is_map(self) -> bool:
        """Whether it is a raster with a place on the ground or many bands, and no picture."""
        data = self._data
        placed = data.crs is not None or bool(data.gcps[0])
        return self._page.is_scene if self._page else data.driver == "JP2OpenJPEG" and (placed or data.count > _PICTURE)

    def close(self) -> None:
        """Closes the file."""
        self._data.close()

    def declared(self, images: int, whole: bool) -> Declared:
        """Returns what the file declares; `whole`: it is decoded at once, and not window by window."""
        data = self._data
        item = max(np.dtype(name).itemsize for name in data.dtypes)
        block = max(height * width for height, width in data.block_shapes) * item
        if data.interleaving is not None and data.interleaving.name == "pixel":
            block *= data.count
        side = None if whole or self._against_rows else LONGEST
        part = min(data.height, side or data.height) * min(data.width, side or data.width) * data.count * item
        total = data.height * data.width * data.count * item
        return Declared(self.height, self.width, images, max(part, block), total, windowed=not whole)

    def cut(self, box: Box) -> Image:
        """Decodes a part of the image, wholly inside."""
        if not self._against_rows:
            return self._decoded(box)
        self._whole = self._whole or self._decoded(Box(0, 0, self.height, self.width))
        return self._whole.cut(box)

    def _decoded(self, box: Box) -> Image:
        from rasterio.windows import Window

        data = self._data
        with _reasons(self._path):
            top, left, height, width = self._stored(box)
            window = Window(left, top, width, height)
            bands = self._bands()
            pixels = self._shown(np.moveaxis(data.read(bands, window=window), 0, -1))
            valid = self._valid(bands, window)
            scales = [(data.scales[b - 1], data.offsets[b - 1]) for b in bands]
            if any(pair != (1.0, 0.0) for pair in scales):
                slope, offset = np.array(scales).T
                pixels = (pixels * slope + offset).astype(np.float32)
            if pixels.dtype.kind == "f":
                finite = np.isfinite(pixels).all(axis=2)
                valid = finite if valid is None else valid & finite
            facts = self.facts | ({"bounds": self._bounds(self._stored(box))} if "bounds" in self.facts else {})
        pixels = np.ascontiguousarray(upright(pixels, self._orientation))
        valid = None if valid is None or valid.all() else np.ascontiguousarray(upright(valid, self._orientation))
        return Image(pixels, self._mode(pixels), facts, valid)

    def _bands(self) -> list[int]:
        """Returns the bands that are the file's own: GDAL makes RGB and a full alpha of ink and of Lab."""
        made = self._page is not None and self._page.photometric > tiff.PALETTE and self._names[-1:] == ["alpha"]
        return list(self._data.indexes)[: -1 if made else None]

    def _stored(self, box: Box) -> Box:
        """Returns where a box of the upright image lies in the image as it is stored."""
        top, left, height, width = box
        if self._orientation in (3, 4, 7, 8):
            top = self.height - top - height
        if self._orientation in (2, 3, 6, 7):
            left = self.width - left - width
        return Box(left, top, width, height) if self._orientation in _LYING else Box(top, left, height, width)

    def _valid(self, bands: list[int], window: Any) -> NDArray[np.bool_] | None:
        """Returns where every band has data, by nodata and masks; transparency is no mask, for it may be a band."""
        from rasterio.enums import MaskFlags

        flags = self._data.mask_flag_enums
        masked = [b for b in bands if not {MaskFlags.all_valid, MaskFlags.alpha} & set(flags[b - 1])]
        return self._data.read_masks(masked, window=window).all(axis=0) if masked else None

    def _shown(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Returns the colours of a band that holds their numbers, black and white of bits, anything else as it is."""
        if not self._colours:
            return pixels
        if self._names[0] == "palette" and pixels.shape[2] == 1 and pixels.dtype.name in _COLOUR_TABLE:
            table = np.zeros((_COLOUR_TABLE[pixels.dtype.name], 3), np.uint8)
            for number, colour in self._data.colormap(1).items():
                table[number] = colour[:3]
            return table[pixels[..., 0]][..., : 1 if self._is_bits else 3]
        return pixels * np.uint8(255) if self._is_bits and not self.is_map else pixels

    def _mode(self, pixels: NDArray[Any]) -> str:
        count = pixels.shape[2]
        if count == 1:
            return "grey"
        named = tuple(self._names[:3]) == _COLOURS or self._names[0] == "palette"
        return "rgb" if count == 3 and named else "bands"

    def _facts(self) -> dict[str, Any]:
        data, bands = self._data, self._bands()
        facts: dict[str, Any] = {"bands": [self._name(band) for band in bands]}
        wavelengths = [_wavelength(data, band) for band in bands]
        if any(wavelengths):
            facts["wavelengths_nm"] = wavelengths
        if "alpha" in (marked := [self._names[band - 1] for band in bands]):
            facts["alpha"] = marked.index("alpha")
            facts |= {"premultiplied": True} if self._page and self._page.premultiplied else {}
        if self._white_is_zero:
            facts["white_is_zero"] = True
        return facts | self._place()

    def _name(self, band: int) -> str:
        """Returns a band's description, else its colour, else an empty text."""
        colour = self._names[band - 1]
        described = self._data.descriptions[band - 1]
        return (described or (colour if colour in (*_COLOURS, "nir") else "")).strip().lower()

    def _place(self) -> dict[str, Any]:
        """Returns where the raster lies: its coordinates, bounds, and distance of pixels on the ground."""
        crs, transform = self._crs, self._transform
        if crs is None:
            return {}
        code = crs.to_epsg()
        facts: dict[str, Any] = {"crs": f"EPSG:{code}" if code else crs.to_wkt()}
        if transform is None:
            return facts | {"no_gsd": "its header places no pixel on the map"}
        facts["bounds"] = self._bounds(Box(0, 0, self._data.height, self._data.width))
        try:
            facts["gsd_m"] = ground_distance(crs, transform, self._data.height, self._data.width)
        except DataError as error:
            facts["no_gsd"] = str(error)
        return facts

    def _georeference(self) -> tuple[Any, Any]:
        """Returns coordinate system and transform, each None where there is none; control points give the best fit."""
        from rasterio.errors import RasterioError
        from rasterio.transform import from_gcps

        data = self._data
        points, system = data.gcps
        if not data.transform.is_identity:
            return data.crs, data.transform
        if system is None or len(points) < _LEAST_POINTS:
            return data.crs or system, None
        try:
            return system, from_gcps(points)
        except (ValueError, RasterioError):  # points on one line
            return system, None

    def _bounds(self, box: Box) -> list[float]:
        """Returns left, bottom, right, top of a box of the image as it is stored."""
        from rasterio.windows import Window, bounds

        return [float(v) for v in bounds(Window(box.left, box.top, box.width, box.height), self._transform)]


def _parts(path: Path, bounds: Bounds, frames: bool) -> list[str]:
    size, pages = path.stat().st_size, tiff.parts_of(path) if tiff.is_tiff(path) else [""]
    check_declared(Declared(*_declared_size(path), len(pages), 0, 0, windowed=frames), size, bounds)
    names: list[str] = []
    total = 0
    known: dict[Any, tuple[Declared, list[str]]] = {}
    for page in pages:
        layout = tiff.image_at(path, page)[1].layout if page else None
        if layout not in known:  # pages of one layout are opened once here
            with closing(Scene(path, page)) as scene:
                windows = [] if frames or not scene.is_map else _windows(scene.height, scene.width)
                known[layout] = scene.declared(1, whole=not windows and not frames), windows
        declared, windows = known[layout]
        names += [f"{page}:{window}" if page else window for window in windows] or [page]
        total += declared.total
        check_declared(declared._replace(total=total, images=len(names)), size, bounds)
    return names


@contextmanager
def _reasons(path: Path) -> Iterator[None]:
    """Gives GDAL its settings and translates what goes wrong; inside another one it does nothing more."""
    if _ENTERED.get():
        yield
        return
    require("rasterio", "remote_sensing")
    import rasterio

    # GDAL's complaints name the file, which may name a patient; what they say is in the reason
    if (logger := logging.getLogger("rasterio")).level != logging.CRITICAL:  # to set it empties caches of all loggers
        logger.setLevel(logging.CRITICAL)
    token = _ENTERED.set(True)
    try:
        with warnings.catch_warnings(), rasterio.Env(**_ENVIRONMENT):
            warnings.simplefilter("ignore")  # a raster without georeference is one
            yield
    except DataError:
        raise
    except MemoryError:
        raise DataError("too large for the memory of this machine") from None
    except Exception as error:  # a hostile file makes a decoder raise nearly anything; each of it means: unreadable
        raise DataError(_reason(path, error)) from None
    finally:
        _ENTERED.reset(token)


def _driver(path: Path) -> str:
    with path.open("rb") as stream:
        head = stream.read(8)
    return next((driver for mark, driver in _DRIVERS.items() if head.startswith(mark)), "GTiff")


def _address(path: Path, page: tiff.Page | None) -> str:
    """Returns how GDAL names a file, or a page of a TIFF that is not its first: by its place, walking through none."""
    whole = str(path.absolute())
    return whole if page is None or page == tiff.pages_of(path)[0] else f"GTIFF_DIR:off:{page.place}:{whole}"


def _declared_size(path: Path) -> tuple[int, int]:
    """Returns height and width of a PNG, JPEG or BMP, which GDAL may not even open; 0 of what it reads in windows."""
    head = head_of(path)
    return (head.height, head.width) if head else (0, 0)


def _exif_orientation(path: Path) -> int:
    """Returns how a large PNG or JPEG lies; 1 where it does not say, or Pillow does not know the file."""
    try:
        with pillow_limit(None), Pillow.open(path, formats=("PNG", "JPEG")) as image:  # nothing is decoded here
            exif = Pillow.Exif()
            exif.load(image.info.get("exif", b""))  # `getexif` of a PNG would decode it
            return int(exif.get(_ORIENTATION, 1))
    except Exception:  # GDAL reads it, or says why not
        return 1


def _reason(path: Path, error: Exception) -> str:
    reason = reason_for(path, error, _NAMES[_driver(path)])
    with path.open("rb") as stream:
        head = stream.read(64)
    if b"<VRTDataset" in head:
        return "content is a GDAL VRT, which names pixels of other files: refused"
    if not reason.startswith("cannot be decoded"):
        return reason
    if not head.startswith((*tiff.MARKS, *_DRIVERS)):
        return f"not a GeoTIFF: unknown content, begins with {head[:8].hex(' ')}"
    # GDAL's own words are in the first cause; rasterio's say no more than 'read failed, see previous exception'
    causes = [str(cause) for cause in _causes(error)]
    return f"file is truncated or damaged ({without_path(causes[-1], path)})"


def _causes(error: BaseException) -> list[BaseException]:
    below = error.__cause__ or error.__context__
    return [error, *(_causes(below) if below is not None else [])]


def _windows(height: int, width: int) -> list[str]:
    """Returns the names of a long scene's windows; none where it is read at once."""
    if max(height, width) <= LONGEST:
        return []
    return [f"{row}-{column}" for row in _starts(height) for column in _starts(width)]


def _starts(length: int) -> list[int]:
    """Returns where windows begin along a side; the last one ends with the side.

    >>> _starts(2500)
    [0, 1024, 1476]
    """
    if length <= WINDOW:
        return [0]
    return [min(start, length - WINDOW) for start in range(0, length, WINDOW)]


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

"""PNG, JPEG, TIFF, BMP, WebP, GIF and PNM through Pillow, each pixel as its file means it.

What is not obvious: 16-bit grey and colour stay uint16 (Pillow alone drops the low byte of 16-bit colour);
CMYK and YCCK become RGB, Adobe's inverted values only where Adobe's mark says so; EXIF rotation is applied;
alpha is composited on white, as a viewer shows it, but for TIFF, whose fourth channel may be near infrared that a
program marked so: there it stays a channel; the pages of a TIFF are parts, each opened as if it were alone; an
animated PNG, WebP or GIF counts as its first frame. `geotiff.py` reads a TIFF of which Pillow would lose something.
"""

import importlib
import importlib.util
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFile, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from isthmus.core.errors import DataError
from isthmus.data.bounds import DEFAULT, HELD, Bounds, Declared, check_declared, too_many_pixels
from isthmus.data.formats import tiff
from isthmus.data.image import Image
from isthmus.data.imaging.pixels import on_white, pillow_limit, upright
from isthmus.data.readers import Reader
from isthmus.data.slices import Slice

# Speed alone hangs on it: where there is no wheel of it, Pillow gives the same pixels.
simplejpeg: Any = importlib.import_module("simplejpeg") if importlib.util.find_spec("simplejpeg") else None

# Pillow gives every image's memory back at once and the system hands it out again page by page: keeping eight blocks
# (of 16 MB at most) halves the processor time of `ingest` on photographs: 2.8 to 1.4 ms each, measured.
Pillow.core.set_blocks_max(8)  # type: ignore[attr-defined]
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "GIF", "PPM")  # JPEG takes the MPO of phones too
_BYTES = {"1": 1, "L": 1, "P": 3, "RGB": 3, "I;16": 2}  # [byte] of a decoded pixel, 4 of any other mode
_BYTE = 255
_PASSES = 100  # over a progressive JPEG, GDAL's limit too: encoders write about ten, and each costs a whole decoding
_ORIENTATION = 0x0112  # EXIF tag
_SWAPPED = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B"}  # 16N is 16L on every machine torch has a wheel for
_LOOKS_LIKE = {
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "gzip data",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"version https://git-lfs": "a Git LFS pointer: run 'git lfs pull'",
}


class FileReader(Reader):
    """Decodes with Pillow, by content and not by suffix."""

    suffixes: ClassVar[frozenset[str]] = frozenset(
        {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".tif", ".tiff", ".bmp", ".dib", ".webp", ".gif"}
        | {".pgm", ".ppm", ".pnm"}
    )

    def parts(self, path: Path, bounds: Bounds = DEFAULT, frames: bool = False) -> list[str]:
        """Returns `[""]`, or one name a page for a TIFF of several pages."""
        size, names = path.stat().st_size, [""]
        if tiff.is_tiff(path):
            sizes = [page.size for page in tiff.images_of(path)]
            names = tiff.parts_of(path)
            if sizes:
                height, width = max(sizes, key=lambda side: side[0] * side[1])
                total = 4 * sum(height * width for height, width in sizes)
                check_declared(Declared(height, width, len(sizes), 8 * height * width, total), size, bounds)
        with _opened(path, names[0], bounds):
            return names

    def read(self, path: Path, part: str, bounds: Bounds = DEFAULT) -> Image:
        """Decodes one image: uint8, uint16, int16, int32 or float32 `[H, W, 1 or 3]`, a TIFF's alpha beside these."""
        with _opened(path, part, bounds) as image:
            _check_passes(path, image)
            facts: dict[str, Any] = {}
            pixels: NDArray[Any] | None = _deep_pnm(path, image) if image.format == "PPM" else _jpeg(path, image)
            if pixels is None:
                raw = _raw_mode(image)
                photometric = image.tag_v2.get(262) if isinstance(image, TiffImageFile) else None
                image.load()
                deep = ";16" in raw and not image.mode.startswith("I")
                pixels = _deep_colour(path, part, raw, image) if deep else _plain(image, raw)
                if photometric == tiff.WHITE_IS_ZERO and not raw.startswith("1;"):
                    facts["white_is_zero"] = True
            orientation = image.getexif().get(_ORIENTATION, 1)
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        if orientation in range(2, 9):
            facts["turned"] = True
        pixels = np.ascontiguousarray(upright(pixels, orientation))
        if pixels.shape[2] in (2, 4):
            return Image(pixels, "bands", facts | {"alpha": pixels.shape[2] - 1})
        return Image(pixels, "grey" if pixels.shape[2] == 1 else "rgb", facts)

    def numbers(self, path: Path, part: str, bounds: Bounds = DEFAULT) -> NDArray[Any]:
        """Decodes indices of a palette, 0 and 1 of black and white, and any other image as `read`."""
        with _opened(path, part, bounds) as image:
            if image.mode in ("1", "P"):
                pixels = np.asarray(image).astype(np.uint8)[..., None]
                return np.ascontiguousarray(upright(pixels, image.getexif().get(_ORIENTATION, 1)))
        return self.read(path, part, bounds).pixels

    def frame(self, path: Path, part: str, bounds: Bounds = DEFAULT) -> Image:
        """Decodes the image: Pillow knows no windows."""
        return self.read(path, part, bounds)

    def slice_of(self, path: Path, part: str) -> Slice | None:
        """Returns None: a picture is a slice of nothing."""
        return None

    def person(self, path: Path, key: bytes | None) -> str | None:
        """Returns None: an image file names no person."""
        return None


@contextmanager
def _opened(path: Path, part: str, bounds: Bounds) -> Iterator[ImageFile.ImageFile]:
    try:
        with ExitStack() as open_files:
            given: BinaryIO = open_files.enter_context(path.open("rb"))
            is_tiff = given.read(4) in tiff.MARKS
            given.seek(0)
            if is_tiff and tiff.pages_of(path):
                given = open_files.enter_context(tiff.page_alone(path, tiff.image_at(path, part)[1]))
            with pillow_limit(bounds.max_pixels):
                image = open_files.enter_context(Pillow.open(given, formats=_FORMATS))
            deep = 2 if ";16" in _raw_mode(image) and not image.mode.startswith("I") else 1
            count = image.width * image.height * _BYTES.get(image.mode, 4) * deep
            check_declared(Declared(image.height, image.width, 1, count, count), path.stat().st_size, bounds)
            yield image
    except DataError:
        raise
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        number = re.search(r"\d+", str(error))  # the first one of Pillow's sentence
        raise too_many_pixels(number.group() if number else "unknown", bounds) from None
    except Exception as error:  # a hostile file makes a decoder raise nearly anything; each of it means: unreadable
        raise DataError(_reason(path, error)) from None


def _check_passes(path: Path, image: ImageFile.ImageFile) -> None:
    """Refuses a progressive JPEG of a few kilobytes that takes minutes to decode."""
    passes = path.read_bytes().count(b"\xff\xda") if image.info.get("progressive") else 0  # what a pass begins with
    if passes > _PASSES:
        raise DataError(f"JPEG of {passes} passes over its pixels; the limit is {_PASSES}. Save the image again")


def _jpeg(path: Path, image: ImageFile.ImageFile) -> NDArray[np.uint8] | None:
    """Returns the pixels of a sound RGB or grey JPEG at half of Pillow's cost, bit by bit Pillow's own.

    None: something else, or in any way odd, which Pillow reads or says what it is. Both packages carry libjpeg-turbo;
    scaled decoding, which would be faster still and changes pixels, is not used.
    """
    if simplejpeg is None or image.format != "JPEG" or image.mode not in ("RGB", "L"):
        return None
    try:
        decoded: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            path.read_bytes(), "RGB" if image.mode == "RGB" else "GRAY", fastdct=False, fastupsample=False, strict=True
        )
    except ValueError:
        return None
    return decoded if decoded.shape[:2] == (image.height, image.width) else None


def _deep_pnm(path: Path, image: ImageFile.ImageFile) -> NDArray[np.uint16] | None:
    """Returns the pixels of a PNM of more than 8 bits, which Pillow would bring to another range; None of another."""
    arguments = image.tile[0].args  # (mode, largest value), or the raw mode where that is 255 or 65535
    deep = arguments == "I;16B" or (isinstance(arguments, tuple) and arguments[1] > _BYTE)
    if not deep:
        return None
    count = image.height * image.width * (3 if image.mode == "RGB" else 1)
    values = np.fromfile(path, ">u2", count, offset=image.tile[0].offset)
    if len(values) < count:
        raise DataError(f"file is truncated (ends after {path.stat().st_size} bytes)")
    return values.reshape(image.height, image.width, -1).astype(np.uint16)


def _reason(path: Path, error: Exception) -> str:
    with path.open("rb") as stream:
        head = stream.read(4096)
        stream.seek(0, 2)
        size = stream.tell()
        stream.seek(max(size - 64, 0))
        tail = stream.read()
    if size == 0:
        return "file is empty (0 bytes)"
    kind = next((name for mark, name in _LOOKS_LIKE.items() if head.startswith(mark)), "")
    if head[128:132] == b"DICM":
        kind = "a DICOM file"
    if isinstance(error, UnidentifiedImageError):
        if not kind and not head.strip(b"\0"):
            kind = "zero bytes only"
        if not kind and _is_text(head):
            kind = "text"
        if kind:
            return f"content is {kind}, not an image"
        return _truncated(head, size) or f"not an image: unknown content, begins with {head[:8].hex(' ')}"
    cut = isinstance(error, EOFError) or any(w in str(error).lower() for w in ("truncated", "broken data", "ended"))
    if cut or not _ends_well(head, tail):
        return f"file is truncated (ends after {size} bytes)"
    return f"cannot be decoded ({type(error).__name__}: {' '.join(str(error).split())})"


def _truncated(head: bytes, size: int) -> str:
    marks = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"RIFF")
    return f"file is truncated (ends after {size} bytes)" if head.startswith(marks) and size < 1024 else ""


def _ends_well(head: bytes, tail: bytes) -> bool:
    if head.startswith(b"\x89PNG"):
        return b"IEND" in tail
    return b"\xff\xd9" in tail if head.startswith(b"\xff\xd8\xff") else True


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8", errors="strict") if len(head) < 4096 else head[:4092].decode("utf-8", "ignore")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\r\n\t\f" for character in text)


def _raw_mode(image: ImageFile.ImageFile) -> str:
    # The decoder's own name of how bytes lie in the file: the only place where Pillow says "16 bit" for colour.
    if not image.tile:
        return ""
    arguments = image.tile[0][3]
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _deep_colour(path: Path, part: str, raw: str, image: ImageFile.ImageFile) -> NDArray[Any]:
    """Returns 16-bit colour, uint16 `[H, W, 1 or 3]`.

    Pillow keeps the high bytes only; asked for the other byte order, it returns the low ones.
    """
    mode, _, depth = raw.partition(";")
    if raw == "LA;16B":  # four bytes a pixel (grey high, low, alpha high, low): the same layout as 8-bit RGBA
        parts = _decoded(path, part, "RGBA").astype(np.uint16)
        grey, alpha = parts[..., 0:1] << 8 | parts[..., 1:2], parts[..., 2:3] << 8 | parts[..., 3:4]
        return on_white(grey, alpha)
    if (
        mode not in ("RGB", "RGBA", "RGBX")
        or f";{depth}" not in _SWAPPED
        or len(image.getbands()) != len(mode.rstrip("X"))
    ):
        raise DataError(f"16-bit pixels of layout '{raw}' are not supported. Save the image as 16-bit grey or RGB")
    high = np.asarray(image).astype(np.uint16)
    low = _decoded(path, part, mode + _SWAPPED[f";{depth}"])
    if high.shape != low.shape:
        raise DataError(f"16-bit pixels of layout '{raw}' are not supported. Save the image as 16-bit grey or RGB")
    both = high << 8 | low
    if mode == "RGBA" and not isinstance(image, TiffImageFile):
        return on_white(both[..., :3], both[..., 3:])
    return both if mode == "RGBA" else both[..., :3]


def _decoded(path: Path, part: str, raw: str) -> NDArray[np.uint8]:
    with _opened(path, part, HELD) as again:
        again.tile = [
            tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw) for tile in again.tile
        ]
        return np.asarray(again)


def _plain(image: ImageFile.ImageFile, raw: str) -> NDArray[Any]:
    """Returns `[H, W]`, `[H, W, 3]` or a TIFF's `[H, W, 2 or 4]` of every mode that is not 16-bit colour."""
    if isinstance(image, TiffImageFile):
        if image.mode in ("LA", "RGBA") and raw != "RGBa":
            return np.asarray(image)
        if raw in ("L;I", "L;2I", "L;4I"):  # white is zero, which Pillow turns over for 8 bit and not for 16
            return 255 - np.asarray(image)
        if raw.startswith("I;16") and raw.endswith("S"):
            return np.asarray(image).astype(np.int16)
    picture: Pillow.Image = image
    if "transparency" in picture.info and picture.mode in ("1", "L", "P", "RGB"):
        picture = picture.convert("LA" if picture.mode in ("1", "L") else "RGBA")
    if picture.mode in ("PA", "La", "RGBa"):
        picture = picture.convert({"La": "LA"}.get(picture.mode, "RGBA"))
    if picture.mode in ("LA", "RGBA"):
        pixels = np.asarray(picture)
        return on_white(pixels[..., :-1], pixels[..., -1:])
    if picture.mode == "CMYK":
        # Pillow takes every CMYK JPEG for an inverted one; only Adobe's writers invert, and they leave their mark.
        if image.format in ("JPEG", "MPO") and "adobe" not in picture.info:
            picture = Pillow.fromarray(255 - np.asarray(picture), "CMYK")
        picture = picture.convert("RGB")
    if picture.mode in ("P", "YCbCr", "HSV", "RGBX"):
        picture = picture.convert("RGB")
    if picture.mode == "1":
        picture = picture.convert("L")
    if picture.mode not in ("L", "RGB", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"):
        raise DataError(f"pixels of mode '{picture.mode}' are not supported. Save the image as grey or RGB")
    pixels = np.asarray(picture)
    return pixels.astype(np.uint16) if picture.mode.startswith("I;16") else pixels

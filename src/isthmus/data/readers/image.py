"""PNG, JPEG, TIFF, BMP and WebP through Pillow, each pixel as its file means it.

What is not obvious: 16-bit grey and colour stay uint16 (Pillow alone drops the low byte of 16-bit colour);
CMYK and YCCK become RGB, Adobe's inverted values only where Adobe's mark says so; EXIF rotation is applied;
alpha is composited on white, as a viewer shows it; the pages of a TIFF are parts; an animated PNG or WebP counts
as its first frame.
"""

import importlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFile, UnidentifiedImageError

from isthmus.core.errors import DataError
from isthmus.data.image import Image
from isthmus.data.readers import Reader
from isthmus.data.slices import Slice

# Speed alone hangs on it: where there is no wheel of it, Pillow gives the same pixels.
simplejpeg: Any = importlib.import_module("simplejpeg") if importlib.util.find_spec("simplejpeg") else None

PIXEL_LIMIT = 89_478_485  # [pixel] of one page: a quarter of a gigabyte as RGB, Pillow's own limit
# Pillow gives every image's memory back at once and the system hands it out again page by page: keeping eight blocks
# (of 16 MB at most) halves the processor time of `ingest` on photographs: 2.8 to 1.4 ms each, measured.
Pillow.core.set_blocks_max(8)  # type: ignore[attr-defined]
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")  # JPEG takes the MPO of phones too
_ORIENTATION = 0x0112  # EXIF tag
_SWAPPED = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B"}  # 16N is 16L on every machine torch has a wheel for
_LOOKS_LIKE = {
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "gzip data",
    b"GIF8": "a GIF image",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"version https://git-lfs": "a Git LFS pointer: run 'git lfs pull'",
}


class FileReader(Reader):
    """Decodes with Pillow, by content and not by suffix."""

    suffixes: ClassVar[frozenset[str]] = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})

    def parts(self, path: Path) -> list[str]:
        """Returns `[""]`, or one name a page for a TIFF of several pages."""
        with _opened(path, "") as image:
            pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
        return [""] if pages == 1 else [str(page) for page in range(pages)]

    def read(self, path: Path, part: str) -> Image:
        """Decodes one image: uint8, uint16, int32 or float32 `[H, W, 1 or 3]`."""
        with _opened(path, part) as image:
            pixels = _jpeg(path, image)
            if pixels is None:
                raw = _raw_mode(image)
                image.load()
                deep = ";16" in raw and not image.mode.startswith("I")
                pixels = _deep_colour(path, part, raw, image) if deep else _plain(image)
            orientation = image.getexif().get(_ORIENTATION, 1)
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        pixels = np.ascontiguousarray(_upright(pixels, orientation))
        return Image(pixels, "grey" if pixels.shape[2] == 1 else "rgb")

    def slice_of(self, path: Path, part: str) -> Slice | None:
        """Returns None: a picture is a slice of nothing."""
        return None

    def person(self, path: Path, key: bytes | None) -> str | None:
        """Returns None: a picture names nobody."""
        return None


@contextmanager
def _opened(path: Path, part: str) -> Iterator[ImageFile.ImageFile]:
    try:
        with Pillow.open(path, formats=_FORMATS) as image:
            if part:
                image.seek(int(part))
            if image.width * image.height > PIXEL_LIMIT:
                raise _too_large(image)
            yield image
    except DataError:
        raise
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:
        raise DataError(f"too many pixels ({error}); the limit is {PIXEL_LIMIT}") from None
    except Exception as error:  # a hostile file makes a decoder raise nearly anything; each of it means: unreadable
        raise DataError(_reason(path, error)) from None


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


def _too_large(image: ImageFile.ImageFile) -> DataError:
    count = image.width * image.height
    return DataError(f"too many pixels ({image.width} x {image.height} = {count}); the limit is {PIXEL_LIMIT}")


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
        return _on_white(grey, alpha)
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
    return _on_white(both[..., :3], both[..., 3:]) if mode == "RGBA" else both[..., :3]


def _decoded(path: Path, part: str, raw: str) -> NDArray[np.uint8]:
    with _opened(path, part) as again:
        again.tile = [
            tile._replace(args=(raw, *tile.args[1:]) if isinstance(tile.args, tuple) else raw) for tile in again.tile
        ]
        return np.asarray(again)


def _plain(image: Pillow.Image) -> NDArray[Any]:
    """Returns `[H, W]` or `[H, W, 3]` of every mode that is not 16-bit colour."""
    if "transparency" in image.info and image.mode in ("1", "L", "P", "RGB"):
        image = image.convert("LA" if image.mode in ("1", "L") else "RGBA")
    if image.mode in ("PA", "La", "RGBa"):
        image = image.convert({"La": "LA"}.get(image.mode, "RGBA"))
    if image.mode in ("LA", "RGBA"):
        pixels = np.asarray(image)
        return _on_white(pixels[..., :-1], pixels[..., -1:])
    if image.mode == "CMYK":
        # Pillow takes every CMYK JPEG for an inverted one; only Adobe's writers invert, and they leave their mark.
        if image.format in ("JPEG", "MPO") and "adobe" not in image.info:
            image = Pillow.fromarray(255 - np.asarray(image), "CMYK")
        image = image.convert("RGB")
    if image.mode in ("P", "YCbCr", "HSV", "RGBX"):
        image = image.convert("RGB")
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "RGB", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"):
        raise DataError(f"pixels of mode '{image.mode}' are not supported. Save the image as grey or RGB")
    pixels = np.asarray(image)
    return pixels.astype(np.uint16) if image.mode.startswith("I;16") else pixels


def _on_white(colour: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Composites on white: c a + white (1 - a), rounded, in the dtype's own range."""
    white = int(np.iinfo(colour.dtype).max)
    c, a = colour.astype(np.uint64), alpha.astype(np.uint64)
    return ((c * a + white * (white - a) + white // 2) // white).astype(colour.dtype)


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Applies the EXIF orientation (CIPA DC-008, tag 274): where row 0 and column 0 of the file lie in the scene."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels

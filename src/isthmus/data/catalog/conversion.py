"""Files as their public origin has them -> the known files, where a mirror's copies are not the origin's bytes.

A lossless copy is vouched for by its pixels, for the bytes of a PNG depend on the zlib that packed it. A lossy copy is
made again by the very recipe and vouched for by its bytes: another build of libjpeg may write others, and is refused.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from isthmus.core.errors import DataError

_SIDE, _QUALITY = 224, 92  # of RSSCN7's small copies: Lanczos, 4:4:4


def pixels_sha256(path: Path) -> str:
    """Returns the SHA-256 of an image's size and RGB pixels, row by row.

    Raises:
        DataError: it is no image.
    """
    image = _opened(path)
    return hashlib.sha256(f"{image.width}x{image.height}\n".encode() + image.tobytes()).hexdigest()


def as_png(path: Path) -> None:
    """Writes an image again, losslessly, in place."""
    _opened(path).save(path, "PNG")


def as_small_jpeg(path: Path) -> None:
    """Writes an image again, 224 x 224 pixels, as JPEG, in place."""
    small = _opened(path).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    small.save(path, "JPEG", quality=_QUALITY, subsampling=0)


RECIPES: dict[str, Callable[[Path], None]] = {"png": as_png, "jpeg_224": as_small_jpeg}


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=("BMP", "PNG", "JPEG")) as image:
            return image.convert("RGB")
    except Exception as error:  # a wrong answer of a server makes a decoder raise nearly anything
        raise DataError(
            f"{path.name}: the downloaded file is not an image ({type(error).__name__}): nothing was saved"
        ) from None

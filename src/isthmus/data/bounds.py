"""How large a file may be, and what it may declare, before any of it is decoded.

A few hundred bytes can declare billions of pixels, and decoding them takes hours and all memory. So every reader first
adds up what the header declares and holds it against these bounds: memory and time then follow from them, without a
clock, and the same file is refused on every machine.
"""

from typing import NamedTuple

from pydantic import Field

from isthmus.core.config import Config
from isthmus.core.errors import DataError

ALWAYS = 2**29  # [byte] that any file may decode to, however small it is: a blank page of 80 million pixels is honest


class TooManyPixelsError(DataError):
    """An image that has more pixels than are decoded."""


class Bounds(Config):
    """`ingest.files`: what one file may hold."""

    max_bytes: int = Field(4 * 2**30, ge=1, description="[byte] of a file")
    max_pixels: int = Field(
        89_478_485,
        ge=1,
        description="[pixel] of an image that is decoded whole: a picture, page, frame or slice. Where 'tiles' cuts "
        "frames, TIFF, PNG, JPEG, BMP and JPEG 2000 are read in windows and may be larger",
    )
    max_decoded_bytes: int = Field(2**30, ge=1, description="[byte] of memory for what is decoded at once")
    max_images: int = Field(10_000, ge=1, description="pages, frames, slices, windows or tiles of one file")
    max_expansion: int = Field(
        200, ge=1, description="[ratio] of decoded bytes to bytes of the file, where they are over 512 MiB"
    )


DEFAULT = Bounds()
_ENDLESS = 2**62
HELD = Bounds(  # for files that `ingest` has held against the user's own
    max_bytes=_ENDLESS, max_pixels=_ENDLESS, max_decoded_bytes=_ENDLESS, max_images=_ENDLESS, max_expansion=_ENDLESS
)


class Declared(NamedTuple):
    """What a file's header declares; nothing is decoded.

    Attributes:
        height, width: of its largest image [pixel].
        images: how many there are.
        at_once: memory for what is decoded at once [byte].
        total: memory for all images, one after the other [byte].
        windowed: whether parts of an image are read without the rest.
    """

    height: int
    width: int
    images: int
    at_once: int
    total: int
    windowed: bool = False


def too_many_pixels(count: str, bounds: Bounds) -> TooManyPixelsError:
    """Returns why an image is not decoded, and what can be done."""
    return TooManyPixelsError(
        f"too many pixels ({count}); the limit is {bounds.max_pixels} ('ingest.files.max_pixels' in params.yaml; with"
        " 'tiles' of the scenario larger frames are cut)"
    )


def check_size(size: int, bounds: Bounds) -> None:
    """Refuses a file that is too large to be read at all.

    Raises:
        DataError: with its size and the limit.
    """
    if size > bounds.max_bytes:
        raise DataError(
            f"file of {size} bytes is too large; the limit is {bounds.max_bytes} ('ingest.files.max_bytes' in"
            " params.yaml)"
        )


def check_declared(declared: Declared, size: int, bounds: Bounds) -> None:
    """Refuses a file whose header declares more than may be decoded.

    Args:
        declared: what its header says.
        size: of the file [byte].
        bounds: those of the user.

    Raises:
        DataError: with what is declared and the limit.
    """
    height, width, images, at_once, total, windowed = declared
    if not windowed and height * width > bounds.max_pixels:
        raise too_many_pixels(f"{width} x {height} = {width * height}", bounds)
    if total > max(ALWAYS, bounds.max_expansion * size):
        raise DataError(
            f"too many pixels for its size: {size} bytes decode to {total}; the limit is {bounds.max_expansion} times"
            " its size ('ingest.files.max_expansion' in params.yaml)"
        )
    if images > bounds.max_images:
        raise DataError(
            f"{images} images in one file; the limit is {bounds.max_images} ('ingest.files.max_images' in params.yaml)"
        )
    if at_once > bounds.max_decoded_bytes:
        raise DataError(
            f"too large to decode ({width} x {height} pixels, {at_once} bytes at once); the limit is"
            f" {bounds.max_decoded_bytes} ('ingest.files.max_decoded_bytes' in params.yaml)"
        )

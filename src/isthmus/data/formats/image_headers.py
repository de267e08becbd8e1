"""The heads of PNG, JPEG and BMP, read by hand: which pictures Pillow cannot or must not read, so that GDAL does."""

import io
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

LARGE = 89_478_485  # [pixel]: over it GDAL reads a picture window by window; Pillow would decode the whole of it
_MOST_SEGMENTS = 4096
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # start of frame; the three others are tables


class Head(NamedTuple):
    """What a picture declares: bits of a sample, rows and columns [pixel]."""

    bits: int
    height: int
    width: int


def head_of(path: Path, head: bytes = b"") -> Head | None:
    """Returns what a PNG, JPEG or BMP declares; None of another file, and where the head is cut off.

    Args:
        path: the file; opened only where its first bytes are not enough.
        head: its first bytes, where they are at hand.
    """
    for _ in range(2):
        try:
            with io.BytesIO(head) if head else path.open("rb") as stream:
                return _declared(stream)
        except (OSError, struct.error):  # cut off: if the file is too, decoding reports it
            head = b""
    return None


def _declared(stream: BinaryIO) -> Head | None:
    head = stream.read(64)
    if head.startswith(b"\x89PNG"):
        width, height = struct.unpack_from(">II", head, 16)
        return Head(8, height, width)
    if head.startswith(b"BM"):
        width, height = struct.unpack_from("<ii", head, 18)
        return Head(8, abs(height), abs(width))
    return _jpeg(stream) if head.startswith(b"\xff\xd8") else None


def is_gdals(path: Path, head: bytes) -> bool:
    """Returns whether a picture has more pixels than Pillow is asked for, or is a JPEG of more than its 8 bits."""
    declared = head_of(path, head)
    return declared is not None and (declared.bits > 8 or declared.height * declared.width > LARGE)


def _jpeg(stream: BinaryIO) -> Head | None:
    """Returns what the first start of frame declares (ITU-T T.81, B.2.2)."""
    place = 2
    for _ in range(_MOST_SEGMENTS):
        stream.seek(place)
        mark, kind, length = struct.unpack(">BBH", stream.read(4))
        if mark != 0xFF or kind == 0xDA:
            break
        if kind in _FRAMES:
            return Head(*struct.unpack(">BHH", stream.read(5)))
        place += 1 if kind == 0xFF else 2 if kind in _WITHOUT_LENGTH else 2 + length
    return None

"""The first directory of a TIFF, read by hand: enough to know which reader should open the file."""

import struct
from pathlib import Path
from typing import BinaryIO

# Written by GIS software alone: model pixel scale, tie point, transformation, GeoKeys, GDAL's metadata and nodata.
_RASTER_TAGS = {33550, 33922, 34264, 34735, 42112, 42113}
_SAMPLES = 277  # SamplesPerPixel
_PICTURE_SAMPLES = 4  # grey, RGB, RGBA, CMYK; more are spectral bands
_MAX_ENTRIES = 4096  # of a directory; the standard names some 100 tags


def is_raster(path: Path) -> bool:
    """Returns whether a TIFF is a georeferenced or many-band raster, which GDAL reads, and not a picture.

    TIFF 6.0 (Adobe, 1992), section 2, and the BigTIFF design (Ritter et al., 2004): a directory is a count and as
    many entries of tag, type, count, value. A file that cannot be followed is no raster: its reader says why.
    """
    try:
        with path.open("rb") as stream:
            return _looks_like_raster(stream)
    except (OSError, struct.error, ValueError):  # ValueError: a place of 2^63 or more
        return False


def _looks_like_raster(stream: BinaryIO) -> bool:
    head = stream.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None:
        return False
    (version,) = struct.unpack_from(f"{order}H", head, 2)
    if version not in (42, 43):
        return False
    big = version == 43
    (place,) = struct.unpack_from(f"{order}Q" if big else f"{order}I", head, 8 if big else 4)
    count_format, entry_format = (f"{order}Q", f"{order}HHQQ") if big else (f"{order}H", f"{order}HHII")
    stream.seek(place)
    (count,) = struct.unpack(count_format, stream.read(struct.calcsize(count_format)))
    size = struct.calcsize(entry_format)
    for _ in range(min(count, _MAX_ENTRIES)):
        entry = stream.read(size)
        (tag,) = struct.unpack_from(f"{order}H", entry)
        if tag in _RASTER_TAGS:
            return True
        if tag == _SAMPLES and struct.unpack_from(f"{order}H", entry, size - (8 if big else 4))[0] > _PICTURE_SAMPLES:
            return True
    return False

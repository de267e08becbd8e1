"""Decodes what a registered model is given: a path, a part of a file, the bytes of a file, base64, an array."""

import base64
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import DataError
from isthmus.data.bounds import DEFAULT, HELD, Bounds
from isthmus.data.image import Image
from isthmus.data.preprocess.tiling import is_tile, read_part, tile_shape
from isthmus.data.readers import Reader, family_of, reader_for
from isthmus.data.tiles import Tiles

_MODES = {1: "grey", 3: "rgb"}


def decode(given: object, bounds: Bounds = DEFAULT) -> Image:
    """Decodes the file at a `Path`, one part of it, the bytes of a file (as they are or in base64), or an array.

    Args:
        given: one of these.
        bounds: what a file may declare.

    Raises:
        TooManyPixelsError: the file declares more than `bounds.max_pixels`.
        DataError: it is none of these, it is broken, or the file holds several images.
    """
    if isinstance(given, np.ndarray):
        return _from_array(given)
    if isinstance(given, bytes | bytearray | memoryview):
        return _from_bytes(bytes(given), bounds)
    if isinstance(given, Path):
        return _from_file(given, bounds)
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], Path):
        return _part(*given)
    if isinstance(given, str):
        # Never a path: a request to the scoring server arrives as text, and a client could have the server open any
        # of its files. Nothing that comes over the network can be a Path.
        return _from_base64(given, bounds)
    raise DataError(
        f"cannot take a {type(given).__name__}. Allowed: a pathlib.Path, the bytes of an image file, an array"
    )


def check_tile(image: Image, tiles: Tiles, domain: str) -> None:
    """Checks that an image is one tile of its scenario: a model of tiles has never seen a whole frame.

    Raises:
        DataError: it has another size, or its scale is not known.
    """
    height, width = tile_shape(image, tiles, domain)
    rows, columns = image.pixels.shape[:2]
    if (rows, columns) != (height, width):
        raise DataError(
            f"{rows} x {columns} pixels; this model takes one tile of {height} x {width} ('tiles' of its scenario), not"
            f" a whole frame. Pass (path, '@top-left-{height}-{width}') for each tile, or cut the frame and pass tiles"
        )


def _part(path: Path, part: str) -> Image:
    reader = _existing(path)
    # whoever names a part has listed those of the file: `ingest` has held it against the scenario's own bounds
    return read_part(path, part, None) if is_tile(part) else reader.read(path, part, HELD)


def _from_base64(text: str, bounds: Bounds) -> Image:
    data = _unpacked(text.encode())
    if data is None:
        raise DataError(
            f"{len(text)} characters of text are not an image file in base64. Allowed: a pathlib.Path, the bytes of an"
            " image file, those bytes in base64, an array; the text of a path is not opened"
        )
    return _from_bytes(data, bounds)


def _unpacked(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None


def _from_array(pixels: NDArray[Any]) -> Image:
    if pixels.ndim not in (2, 3) or pixels.size == 0 or pixels.dtype.kind not in "uif":
        raise DataError(f"array of shape {list(pixels.shape)}, {pixels.dtype}. Allowed: numbers, [H, W] or [H, W, C]")
    shaped = pixels[..., None] if pixels.ndim == 2 else pixels
    return Image(shaped, _MODES.get(shaped.shape[2], "bands"))


def _from_bytes(data: bytes, bounds: Bounds) -> Image:
    if not family_of(data):
        # `instances` requests reach a model as the bytes of their base64 text: MLflow 3.17 does not decode them
        unpacked = _unpacked(data)
        if unpacked is None or not family_of(unpacked):
            raise DataError(f"{len(data)} bytes beginning with {data[:8]!r} are no image file of a known format")
        data = unpacked
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        path.write_bytes(data)
        return _from_file(path, bounds)


def _existing(path: Path) -> Reader:
    if not path.is_file():
        raise DataError("no such file")
    return reader_for(path)


def _from_file(path: Path, bounds: Bounds) -> Image:
    reader = _existing(path)
    parts = reader.parts(path, bounds)
    if len(parts) != 1:
        raise DataError(f"holds {len(parts)} images; one is expected. Pass (path, part) for each of them")
    return reader.read(path, parts[0], bounds)

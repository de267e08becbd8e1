"""Large frames -> tiles of one size, in pixels or at a fixed scale on the ground or on the part.

A tile is a part of its file, as a page or a slice is: its name ends in `@top-left-height-width` [pixel], its identity
is that of the file's bytes and this name, and its group is that of the whole file, so that the tiles of one frame never
lie in two splits, overlap or not. Tiles of a raster that its reader already gives in windows lie inside these.

A tile takes its frame's label. That is a weak label: a frame called 'scratch' has tiles without a scratch, and a model
learns from all of them that they show one. Tile where the class fills the frame (a texture, a land cover), or label the
tiles themselves.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from isthmus.core.errors import DataError
from isthmus.core.files import sha256_file
from isthmus.data.image import Image
from isthmus.data.readers import reader_for
from isthmus.data.tiles import Tiles

_MARK = "@"  # no reader's own names hold it
_MOST = 4096  # tiles of one frame
_STATED = {"mm": "pixel_spacing_mm", "m": "gsd_m"}  # facts of a file, [unit/pixel] of rows and of columns


class Box(NamedTuple):
    """Where a tile lies in its frame [pixel]."""

    top: int
    left: int
    height: int
    width: int


def tiled(frame: Image, part: str, tiles: Tiles | None, domain: str) -> Iterator[tuple[str, Image]]:
    """Yields the parts of a decoded frame with their names; without `tiles` the frame itself.

    Raises:
        DataError: the frame is smaller than a tile, makes too many, or its scale is not known.
    """
    if tiles is None:
        yield part, frame
        return
    for box in _boxes(frame, tiles, domain):
        yield f"{part}{_MARK}{'-'.join(map(str, box))}", _cut(frame, box)


def read_part(path: Path, part: str, sha256: str) -> Image:
    """Decodes a part as its name says: a tile, or what the reader calls so.

    Raises:
        DataError: with the reason, as of the reader.
        ChangedError: the file's bytes are not those that were ingested.
    """
    name, mark, box = part.partition(_MARK)
    if not mark:
        return _checked(path, name, sha256)
    if not re.fullmatch(r"\d+-\d+-\d+-\d+", box):
        raise DataError(f"'{part}' names no tile. Allowed: PART@top-left-height-width [pixel], as in '@0-64-32-32'")
    return _cut(_frame(path, name, sha256), Box(*map(int, box.split("-"))))


def tile_shape(frame: Image, tiles: Tiles, domain: str) -> tuple[int, int]:
    """Returns height and width of a tile [pixel], at the frame's scale; that of a tile of it is the same.

    Raises:
        DataError: the scale is not known.
    """
    height, width = (max(1, round(tiles.size / scale)) for scale in _scales(frame, tiles, domain))
    return height, width


def is_tile(part: str) -> bool:
    """Says whether a part is a tile.

    >>> is_tile("2@0-0-64-64"), is_tile("2")
    (True, False)
    """
    return _MARK in part


class ChangedError(DataError):
    """A raw file that is not what it was. Its message names no file: whoever knows the kind of the images does."""


@lru_cache(maxsize=1)  # one frame: tiles come frame by frame
def _frame(path: Path, part: str, sha256: str) -> Image:
    return _checked(path, part, sha256)


def _checked(path: Path, part: str, sha256: str) -> Image:
    try:
        same = path.is_file() and sha256_file(path) == sha256
    except OSError:
        same = False
    if not same:
        raise ChangedError("changed or gone since 'ingest' read it. Run 'dvc repro' to ingest again")
    return reader_for(path).read(path, part)


def _boxes(frame: Image, tiles: Tiles, domain: str) -> list[Box]:
    sides = frame.pixels.shape[:2]
    lengths = tile_shape(frame, tiles, domain)
    steps = [max(1, round((tiles.size - tiles.overlap) / scale)) for scale in _scales(frame, tiles, domain)]
    if any(length > side for length, side in zip(lengths, sides, strict=True)):
        raise DataError(
            f"frame of {sides[0]} x {sides[1]} pixels is smaller than one tile of {lengths[0]} x {lengths[1]}"
            " ('tiles.size' of the scenario)"
        )
    tops, lefts = (_starts(side, length, step) for side, length, step in zip(sides, lengths, steps, strict=True))
    if len(tops) * len(lefts) > _MOST:
        raise DataError(f"{len(tops) * len(lefts)} tiles in one frame; the limit is {_MOST}. Raise 'tiles.size'")
    return [Box(top, left, *lengths) for top in tops for left in lefts]


def _scales(frame: Image, tiles: Tiles, domain: str) -> tuple[float, float]:
    """Returns [unit/pixel] of rows and of columns."""
    if tiles.unit == "pixel":
        return 1.0, 1.0
    if tiles.scale is not None:
        scale = tiles.scale[domain] if isinstance(tiles.scale, dict) else tiles.scale
        return scale, scale
    stated = frame.facts.get(_STATED[tiles.unit])
    if not stated:
        raise DataError(
            f"file does not state its [{tiles.unit}/pixel], which 'tiles' of the scenario needs. Set 'tiles.scale'"
        )
    return float(stated[0]), float(stated[1])


def _starts(side: int, length: int, step: int) -> list[int]:
    """Returns where tiles begin along a side; the last one is moved back to end with it.

    >>> _starts(100, 40, 30), _starts(90, 40, 40), _starts(40, 40, 40)
    ([0, 30, 60], [0, 40, 50], [0])
    """
    starts = list(range(0, side - length + 1, step))
    return starts if starts[-1] == side - length else [*starts, side - length]


def _cut(frame: Image, box: Box) -> Image:
    rows, columns = slice(box.top, box.top + box.height), slice(box.left, box.left + box.width)
    facts = dict(frame.facts)
    if "bounds" in facts:
        facts["bounds"] = _bounds(facts["bounds"], frame.pixels.shape[0], frame.pixels.shape[1], box)
    valid = None if frame.valid is None else frame.valid[rows, columns]
    return replace(frame, pixels=frame.pixels[rows, columns], facts=facts, valid=valid)


def _bounds(bounds: list[float], height: int, width: int, box: Box) -> list[float]:
    """Returns left, bottom, right, top of a tile, of a north-up raster's.

    >>> _bounds([0.0, 0.0, 100.0, 50.0], 5, 10, Box(1, 2, 2, 3))
    [20.0, 20.0, 50.0, 40.0]
    """
    left, bottom, right, top = bounds
    across, down = (right - left) / width, (top - bottom) / height
    return [
        left + box.left * across,
        top - (box.top + box.height) * down,
        left + (box.left + box.width) * across,
        top - box.top * down,
    ]

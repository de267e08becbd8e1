"""Large frames -> tiles of one size, in pixels or at a fixed scale on the ground or on the part.

A tile is a part of its file, as a page or a slice is: its name ends in `@top-left-height-width` [pixel], its identity
is that of the file's bytes and this name, and its group is that of the whole file, so that the tiles of one frame never
lie in two splits, overlap or not. Frames that GDAL reads are cut as they are decoded, so that they may be of any size;
others are decoded whole, once for all of their tiles.

A tile takes its frame's label. That is a weak label: a frame called 'scratch' has tiles without a scratch, and a model
learns from all of them that they show one. Tile where the class fills the frame (a texture, a land cover), or label the
tiles themselves.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from isthmus.core.errors import DataError
from isthmus.core.files import sha256_file
from isthmus.data.bounds import HELD, Bounds, Declared, check_declared
from isthmus.data.image import Box, Frame, Image
from isthmus.data.masks import Mask
from isthmus.data.readers import Reader, reader_for
from isthmus.data.tasks import AnnotationConfig
from isthmus.data.tiles import Tiles

_MARK = "@"  # no reader's own names hold it
_STATED = {"mm": "pixel_spacing_mm", "m": "gsd_m"}  # facts of a file, [unit/pixel] of rows and of columns


def images_in(
    path: Path, reader: Reader, bounds: Bounds, tiles: Tiles | None, domain: str
) -> Iterator[tuple[str, str, Image, tuple[int, int]]]:
    """Yields the images of a file one after the other: the reader's part, the name, the pixels, the part's size.

    Args:
        path: the file.
        reader: of it.
        bounds: what it may declare.
        tiles: how its frames are cut; None: not at all, and the name is the reader's part.
        domain: of the file.

    Raises:
        DataError: it cannot be read, or declares too much; a frame is smaller than a tile, or its scale is not known.
    """
    parts = reader.parts(path, bounds, frames=tiles is not None)
    for part in parts:
        if tiles is None:
            image = reader.read(path, part, bounds)
            yield part, part, image, (image.height, image.width)
            continue
        frame = reader.frame(path, part, bounds)
        for box in boxes_of(frame, tiles, domain, bounds):
            yield part, f"{part}{_MARK}{'-'.join(map(str, box))}", frame.cut(box), (frame.height, frame.width)


def read_part(path: Path, part: str, sha256: str | None) -> Image:
    """Decodes a part as its name says: a tile, or what the reader calls so.

    Args:
        path: of the file.
        part: of it.
        sha256: of the file's bytes, as `ingest` read them; None: they may be any.

    Raises:
        DataError: with the reason, as of the reader.
        ChangedError: the file's bytes are not those that were ingested.
    """
    name, mark, box = part.partition(_MARK)
    state = _checked(path, sha256)
    if not mark:
        return reader_for(path).read(path, name, HELD)
    if not re.fullmatch(r"\d+-\d+-\d+-\d+", box):
        raise DataError(f"'{part}' is not a tile. Allowed: PART@top-left-height-width [pixel], as in '@0-64-32-32'")
    place, frame = Box(*map(int, box.split("-"))), _frame(path, name, *state)
    if place.top + place.height > frame.height or place.left + place.width > frame.width or not place.size:
        raise DataError(f"'{part}' lies outside its frame of {frame.height} x {frame.width} pixels")
    return frame.cut(place)


def read_mask(path: Path, part: str, sha256: str, answers: AnnotationConfig, classes: tuple[str, ...]) -> Mask:
    """Returns the mask of a part; of a tile it is that of its place in the frame, which is decoded once.

    Args:
        path: of the mask.
        part: of the image.
        sha256: of the mask's bytes, as `ingest` read them.
        answers: of the scenario's task.
        classes: of the scenario.

    Raises:
        DataError: as of `answers.read`.
        ChangedError: the file's bytes are not those that were ingested.
    """
    mask, box = _mask(path, part_of(part), *_checked(path, sha256), answers, classes), box_of(part)
    return mask if box is None else mask[box.top : box.top + box.height, box.left : box.left + box.width]


def box_of(part: str) -> Box | None:
    """Returns where a tile lies in its frame, None of a part that is no tile.

    >>> box_of("2@0-32-64-64")
    Box(top=0, left=32, height=64, width=64)
    """
    _, mark, box = part.partition(_MARK)
    return Box(*map(int, box.split("-"))) if mark else None


def block_of(box: Box, width: int, tiles: Tiles) -> int:
    """Returns which of a frame's blocks a tile lies in, from the left.

    >>> block_of(Box(0, 3, 2, 2), 10, Tiles(size=2, blocks=3))
    1
    """
    return bisect_right(_edges(width, tiles), box.left) - 1


def part_of(part: str) -> str:
    """Returns the reader's part that a tile is cut from; of a part that is no tile, the part.

    >>> part_of("2@0-32-64-64"), part_of("2")
    ('2', '2')
    """
    return part.partition(_MARK)[0]


def order_of(part: str) -> tuple[str, list[int]]:
    """Returns what sorts the tiles of a frame from top to bottom, as their file is read.

    >>> sorted(["@100-0-9-9", "@20-0-9-9", "1"], key=order_of)
    ['@20-0-9-9', '@100-0-9-9', '1']
    """
    name, _, box = part.partition(_MARK)
    return name, [int(number) for number in box.split("-")] if box else []


def tile_shape(frame: Frame, tiles: Tiles, domain: str) -> tuple[int, int]:
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
    """A raw file changed. The message names no file; the caller, who knows the kind of the images, adds it."""


# A frame and the later one of the same place: tiles come frame by frame. `changed` and `size` renew what is kept.
@lru_cache(maxsize=2)
def _frame(path: Path, part: str, changed: int, size: int) -> Frame:
    return reader_for(path).frame(path, part, HELD)


@lru_cache(maxsize=1)
def _mask(path: Path, part: str, changed: int, size: int, answers: AnnotationConfig, classes: tuple[str, ...]) -> Mask:
    mask: Mask = answers.read(path, part, classes, HELD)
    return mask


def _checked(path: Path, sha256: str | None) -> tuple[int, int]:
    """Returns when the file was changed and its size; where its hash is given, its bytes must be those."""
    try:
        if path.is_file():
            state = path.stat()
            if sha256 is None or _sha256(path, state.st_mtime_ns, state.st_size) == sha256:
                return state.st_mtime_ns, state.st_size
    except OSError:
        pass  # the same to its reader: it is not what it was
    raise ChangedError("changed or missing since 'ingest' read it. Run 'dvc repro' to ingest again")


@lru_cache(maxsize=3)  # once for all pages, slices and tiles of a file, the later one beside it and their mask
def _sha256(path: Path, changed: int, size: int) -> str:
    return sha256_file(path)


def boxes_of(frame: Frame, tiles: Tiles, domain: str, bounds: Bounds) -> list[Box]:
    """Returns where the tiles of a frame lie.

    Raises:
        DataError: the frame is smaller than a tile, makes too many, or its scale is not known.
    """
    sides = frame.height, frame.width
    lengths = tile_shape(frame, tiles, domain)
    steps = [max(1, round((tiles.size - tiles.overlap) / scale)) for scale in _scales(frame, tiles, domain)]
    if any(length > side for length, side in zip(lengths, sides, strict=True)):
        raise DataError(
            f"frame of {sides[0]} x {sides[1]} pixels is smaller than one tile of {lengths[0]} x {lengths[1]}"
            " ('tiles.size' of the scenario)"
        )
    edges = _edges(sides[1], tiles)
    if min(after - before for before, after in pairwise(edges)) < lengths[1]:
        raise DataError(
            f"frame of {sides[1]} pixels across has no {tiles.blocks} blocks as wide as one tile of {lengths[1]}"
            " ('tiles.blocks' of the scenario)"
        )
    tops = starts(sides[0], lengths[0], steps[0])
    lefts = [a + start for a, b in pairwise(edges) for start in starts(b - a, lengths[1], steps[1])]
    if len(tops) * len(lefts) > bounds.max_images:
        raise DataError(
            f"{len(tops) * len(lefts)} tiles in one frame; the limit is {bounds.max_images}. Raise 'tiles.size', or"
            " 'ingest.files.max_images' in params.yaml"
        )
    check_declared(Declared(*lengths, 1, 0, 0), 0, bounds)
    return [Box(top, left, *lengths) for top in tops for left in lefts]


def _edges(width: int, tiles: Tiles) -> list[int]:
    """Returns where the blocks of a frame begin, and where the last one ends [pixel]."""
    return [number * width // tiles.blocks for number in range(tiles.blocks + 1)]


def _scales(frame: Frame, tiles: Tiles, domain: str) -> tuple[float, float]:
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


def starts(side: int, length: int, step: int) -> list[int]:
    """Returns where tiles begin along a side; the last one is moved back to end with it.

    >>> starts(100, 40, 30), starts(90, 40, 40), starts(40, 40, 40)
    ([0, 30, 60], [0, 40, 50], [0])
    """
    starts = list(range(0, side - length + 1, step))
    return starts if starts[-1] == side - length else [*starts, side - length]

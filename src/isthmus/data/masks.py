"""Masks: files that say the class of each pixel, read into one form.

A mask here is uint8 `[H, W]`: the place of each pixel's class among the scenario's classes, `IGNORED` where the pixel
is not scored (border pixels, parts that nobody judged, beyond the image).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from isthmus.core.errors import DataError
from isthmus.core.files import read_json
from isthmus.data.bounds import DEFAULT, Bounds
from isthmus.data.boxes import source_labels
from isthmus.data.manifest import BOXES, read_table
from isthmus.data.readers import reader_for
from isthmus.data.shards import open_shard
from isthmus.data.tasks import AnnotationConfig

IGNORED = 255
Mask = NDArray[np.uint8]
_SHOWN = 8  # values in one message
_JPEG = b"\xff\xd8\xff"


class MaskConfig(AnnotationConfig):
    """Values of mask files."""

    masks: ClassVar[bool] = True
    ships_with: ClassVar[str] = "pixels"

    values: tuple[int, ...] | None = Field(
        None, description="value of each class in the mask files, in the order of classes; none: 0, 1, 2, ..."
    )
    ignore: int | None = Field(IGNORED, description="value of pixels that are not scored; none: all are scored")

    @model_validator(mode="after")
    def _distinct(self) -> "MaskConfig":
        values = self.values or ()
        if len(set(values)) != len(values):
            raise ValueError(f"values: two classes have one value (got {list(values)})")
        return self

    def problem(self, classes: Sequence[str]) -> str:
        """Returns what does not fit these classes; see `AnnotationConfig`."""
        values = self.value_of(classes)
        if len(classes) > IGNORED:
            return f"classes: {len(classes)} of them; masks have at most {IGNORED}"
        if len(values) != len(classes):
            return f"annotations.values must have one value for each of {', '.join(classes)} (got {list(values)})"
        if self.ignore in values:
            of = classes[values.index(self.ignore)]
            return f"annotations.ignore: {self.ignore} is the value of '{of}' too. Set 'ignore: null' or another value"
        return ""

    def value_of(self, classes: Sequence[str]) -> tuple[int, ...]:
        """Returns the value of each class in the files."""
        return tuple(range(len(classes))) if self.values is None else self.values

    def read(self, path: Path, part: str, classes: Sequence[str], bounds: Bounds = DEFAULT) -> Mask:
        """Returns a mask file as classes, uint8 `[H, W]`.

        Args:
            path: PNG, TIFF, GeoTIFF or NIfTI with one channel, or with a palette, whose indices count.
            part: page or slice, named as that of the image.
            classes: of the scenario.
            bounds: what the file may declare.

        Raises:
            DataError: it cannot be read, has several channels or a value that is no class.
        """
        raw = one_channel(path, part, bounds)
        mask = np.full(raw.shape, IGNORED, np.uint8)
        known = np.zeros(raw.shape, np.bool_) if self.ignore is None else raw == self.ignore
        for place, value in enumerate(self.value_of(classes)):
            here = raw == value
            mask[here] = place
            known |= here
        if not known.all():
            odd = [f"{value:g}" for value in np.unique(raw[~known])[:_SHOWN]]
            allowed = ", ".join(f"{v} {name}" for v, name in zip(self.value_of(classes), classes, strict=True))
            raise DataError(
                f"mask has the values {', '.join(odd)}, which are no class. Allowed: {allowed}; not scored:"
                f" {'none' if self.ignore is None else self.ignore}. Set 'annotations.values' of the scenario to the"
                " value of each class"
            )
        return mask


def check_mask(mask: Mask, height: int, width: int) -> None:
    """Checks that a mask has the size of its image.

    Raises:
        DataError: it has another one.
    """
    if mask.shape == (height, width):
        return
    why = ""
    if mask.shape == (width, height):
        why = " The sides are exchanged: the image may be turned by its EXIF tag and the mask not. Turn the mask too"
    raise DataError(f"mask is {mask.shape[0]} x {mask.shape[1]} pixels, its image {height} x {width}.{why}")


def class_pixels(mask: Mask, classes: int) -> list[int]:
    """Returns how many pixels each class has; those that are not scored count for none.

    >>> class_pixels(np.array([[0, 1], [1, 255]], np.uint8), 3)
    [1, 2, 0]
    """
    return [int(count) for count in np.bincount(mask.ravel(), minlength=IGNORED + 1)[:classes]]


def placed(mask: Mask, valid: NDArray[np.bool_] | None, box: tuple[float, float, float, float], side: int) -> Mask:
    """Returns a mask as `Kind.prepare` shows its image: the nearest pixel each, `IGNORED` where there is no data.

    Args:
        mask: uint8 `[H, W]`.
        valid: where the image has data; None: everywhere.
        box: top, left, bottom, right of what fills the prepared square [pixel], of `Kind.box`.
        side: of the square [pixel].
    """
    if valid is not None:
        mask = np.where(valid, mask, np.uint8(IGNORED))
    rows, columns = _nearest(box[0], box[2], side), _nearest(box[1], box[3], side)
    inside = ((rows >= 0) & (rows < mask.shape[0]))[:, None] & ((columns >= 0) & (columns < mask.shape[1]))[None, :]
    found = mask[np.clip(rows, 0, mask.shape[0] - 1)[:, None], np.clip(columns, 0, mask.shape[1] - 1)[None, :]]
    return np.where(inside, found, np.uint8(IGNORED))


def _nearest(start: float, stop: float, count: int) -> NDArray[np.intp]:
    return np.floor(start + (np.arange(count) + 0.5) * (stop - start) / count).astype(np.intp)


def cell_shares(masks: Mask, rows: int, columns: int, classes: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns the classes' shares among the scored pixels of each cell, and the share of its pixels that are scored.

    Args:
        masks: uint8 `[N, H, W]`.
        rows: cells from top to bottom.
        columns: cells from left to right.
        classes: K.

    Returns:
        float32 `[N, rows * columns, K]`, zero where no pixel is scored, and float32 `[N, rows * columns]`.
    """
    tops, lefts = _edges(masks.shape[1], rows), _edges(masks.shape[2], columns)
    counts = np.empty((len(masks), rows * columns, classes), np.float32)
    for place in range(classes):
        here = np.add.reduceat(masks == place, tops, axis=1, dtype=np.int32)
        counts[..., place] = np.add.reduceat(here, lefts, axis=2, dtype=np.int32).reshape(len(masks), -1)
    scored = counts.sum(axis=2)
    size = np.outer(np.diff([*tops, masks.shape[1]]), np.diff([*lefts, masks.shape[2]])).reshape(-1)
    return counts / np.maximum(scored, 1)[..., None], (scored / size).astype(np.float32)


def source_cells(
    prepared: Path, index: pd.DataFrame, grid: tuple[int, ...], classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns `cell_shares` of all prepared images by the source's masks or boxes; the target's cells are not scored.

    Args:
        prepared: of `prepare`; `masks/` and `boxes.parquet` hold the source's alone.
        index: `INDEX`, which gives the order.
        grid: rows and columns of cells.
        classes: K.
    """
    if (prepared / "boxes.parquet").is_file():
        boxes, side = read_table(prepared / "boxes.parquet", BOXES), read_json(prepared / "facts.json")["height"]
        return source_labels(boxes, index, grid, side, classes)
    cells = grid[0] * grid[1]
    shares = np.zeros((len(index), cells, classes), np.float32)
    scored = np.zeros((len(index), cells), np.float32)
    for name, rows in index.reset_index(drop=True).groupby("shard"):
        path = prepared / "masks" / f"{name}.npy"
        if path.is_file():
            places = rows.index.to_numpy()
            found = cell_shares(open_shard(path)[rows["row"].to_numpy()], grid[0], grid[1], classes)
            shares[places], scored[places] = found
    return shares, scored


class CellShares:
    """Class shares of the cells of images, read on demand.

    Pickled it is the names of its files: another process opens them.

    Args:
        masks: folder of shards, such as `prepared/masks`, which holds the source's alone; images of others have none.
        index: `INDEX`, which gives the order.
        grid: rows and columns of cells.
        classes: K.

    Attributes:
        cells: T, of an image.
    """

    def __init__(self, masks: Path, index: pd.DataFrame, grid: tuple[int, ...], classes: int) -> None:
        self._made_of = (masks, index[["shard", "row"]], grid, classes)
        self.cells = grid[0] * grid[1]
        found = {path.stem: open_shard(path) for path in sorted(masks.glob("*.npy"))}
        rows = index["row"].to_numpy(np.int64)
        self._places = [(found.get(name), row) for name, row in zip(index["shard"], rows, strict=True)]

    def __reduce__(self) -> Any:
        return CellShares, self._made_of

    def take(self, images: NDArray[np.int64]) -> NDArray[np.float32]:
        """Returns float32 `[n, T, K]`, zero where no pixel of a cell is scored."""
        _, _, (rows, columns), classes = self._made_of
        shares = np.zeros((len(images), self.cells, classes), np.float32)
        for number, place in enumerate(images):
            shard, row = self._places[place]
            if shard is not None:
                shares[number] = cell_shares(shard[row][None], rows, columns, classes)[0][0]
        return shares

    def scored(self, images: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Says of each image whether a pixel of it is scored, `[n]`."""
        opened = [self._places[place] for place in images]
        return np.array([shard is not None and (shard[row] != IGNORED).any() for shard, row in opened], np.bool_)

    def mean(self, images: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns the shares of the classes among the scored cells of these images, `[K]`."""
        total = sum(self.take(images[n : n + 1]).sum(axis=(0, 1), dtype=np.float64) for n in range(len(images)))
        return np.asarray(total / np.sum(total))


def _edges(length: int, count: int) -> NDArray[np.intp]:
    return np.floor(np.arange(count) * length / count).astype(np.intp)


def one_channel(path: Path, part: str, bounds: Bounds) -> NDArray[Any]:
    """Returns the stored values of a mask file or of one part of it, `[H, W]`.

    Raises:
        DataError: it cannot be read, is a JPEG, or has several channels.
    """
    with path.open("rb") as stream:
        if stream.read(len(_JPEG)) == _JPEG:
            raise DataError("mask is a JPEG, whose compression changes values. Save it as PNG or TIFF")
    pixels = reader_for(path).numbers(path, part, bounds)
    if pixels.shape[2] > 1 and not (pixels == pixels[..., :1]).all():
        raise DataError(
            f"mask has {pixels.shape[2]} channels; allowed is one value a pixel. Save it as a grey or palette image"
        )
    return pixels[..., 0]

"""Boxes around objects: read from COCO JSON, Pascal VOC XML and YOLO text into one form, and laid on a grid of cells.

Boxes here are float64 `[G, 5]`: the place of the class among the scenario's classes, then left, top, right and bottom
[pixel], from the outer edge of the image's first pixel. The first class of a scenario is the background, which has
no boxes.
"""

import json
import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from isthmus.core.errors import DataError
from isthmus.data.tasks import AnnotationConfig

Marked = NDArray[np.float64]  # [G, 5]
LEAST_VISIBLE = 0.4  # [share] of a box's area that a tile must show, else the tile is without it
_ROUNDING = 1.0  # [pixel] that a box may lie outside of its image: annotation tools round
_SPREAD = 0.2  # [share] of a box's side: standard deviation of the label around the box's centre
_LEAST_LABEL = 0.01  # below it a cell is background


class Written(NamedTuple):
    """What a file says of one image.

    Attributes:
        boxes: name (COCO, VOC) or number (YOLO) of the class, and left, top, right, bottom as the file has them.
        size: height and width that the file states [pixel]; None: it states none.
        relative: whether boxes are shares of the image's sides and not pixels.
    """

    boxes: list[tuple[str | int, tuple[float, float, float, float]]]
    size: tuple[int, int] | None = None
    relative: bool = False


class BoxConfig(AnnotationConfig):
    """Names of the classes in the annotations."""

    boxes: ClassVar[bool] = True
    noun: ClassVar[str] = "boxes"
    ships_with: ClassVar[str] = "dense"

    names: dict[str, str | None] = Field(
        default_factory=dict,
        description="name in the files -> class of the scenario; null: such boxes are left out; what is not named"
        " is called as in the files",
    )
    numbers: tuple[str, ...] = Field(
        (), description="names in the order of the numbers in YOLO files, where no classes.txt lies beside them"
    )

    def problem(self, classes: Sequence[str]) -> str:
        """Returns what does not fit these classes; see `AnnotationConfig`."""
        allowed = ", ".join(classes[1:])
        wrong = [name for name in self.names.values() if name is not None and name not in classes[1:]]
        if wrong:
            return f"annotations.names: {wrong[0]} is no class of boxes. Allowed: {allowed}, or null"
        if len(set(self.numbers)) != len(self.numbers):
            return f"annotations.numbers: a name stands twice (got {', '.join(self.numbers)})"
        return ""

    def marked(self, written: Written, height: int, width: int, turned: bool, classes: Sequence[str]) -> Marked:
        """Returns the boxes of one image, checked.

        Args:
            written: what a file says of it.
            height: of the image as it is decoded [pixel].
            width: likewise.
            turned: whether the image's file turns it (EXIF).
            classes: of the scenario.

        Raises:
            DataError: a class is unknown, a box is empty or lies outside, or the file is of an image of another size.
        """
        _check_size(written.size, height, width, turned)
        found = [self._class_of(name, classes) for name, _ in written.boxes]
        corners = np.array([box for _, box in written.boxes], np.float64).reshape(-1, 4)
        if written.relative:
            corners *= [width, height, width, height]
        for place, (name, _) in enumerate(written.boxes):
            _check_box(corners[place], f"box {place + 1} ({name})", height, width)
        corners = np.clip(corners, 0, [width, height, width, height])
        kept = [place for place, number in enumerate(found) if number is not None]
        numbers = np.array([found[place] for place in kept], np.float64)
        return np.column_stack([numbers.reshape(-1, 1), corners[kept]])

    def _class_of(self, name: str | int, classes: Sequence[str]) -> int | None:
        if isinstance(name, int):
            if not 0 <= name < len(self.numbers):
                allowed = ", ".join(f"{number} {known}" for number, known in enumerate(self.numbers)) or "none"
                raise DataError(
                    f"class number {name} is not known. Allowed: {allowed}. Name the classes of the YOLO files in their"
                    " order under 'annotations.numbers' of the scenario, or in a classes.txt beside the files"
                )
            name = self.numbers[name]
        wanted = self.names.get(name, name)
        if wanted is None:
            return None
        if wanted not in classes[1:]:
            raise DataError(
                f"class '{name}' is not known. Allowed: {', '.join(classes[1:])}. Name it under 'annotations.names' of"
                f" the scenario, with its class, or with null to leave its boxes out"
            )
        return list(classes).index(wanted)


def _check_size(size: tuple[int, int] | None, height: int, width: int, turned: bool) -> None:
    if size is None or size == (height, width) == (width, height):
        if turned:
            raise DataError(
                "the image is turned by its EXIF tag, and the annotation does not show whether its boxes are turned"
                " too. Save the image upright, without the tag"
            )
        return
    if size == (height, width):
        return
    why = ""
    if size == (width, height):
        why = " The sides are exchanged: the image may be turned by its EXIF tag and the boxes not. Turn the boxes too"
    raise DataError(f"annotation is of an image of {size[0]} x {size[1]} pixels, its image is {height} x {width}.{why}")


def _check_box(box: NDArray[np.float64], what: str, height: int, width: int) -> None:
    left, top, right, bottom = box
    shown = ", ".join(f"{value:g}" for value in box)
    if not np.isfinite(box).all():
        raise DataError(f"{what}: left, top, right, bottom {shown}: no finite numbers")
    if right <= left or bottom <= top:
        raise DataError(f"{what}: left, top, right, bottom {shown}: is empty or inverted. Correct or remove it")
    if min(left, top) < -_ROUNDING or right > width + _ROUNDING or bottom > height + _ROUNDING:
        raise DataError(
            f"{what}: left, top, right, bottom {shown}: lies outside of its image of {width} pixels across and"
            f" {height} down. Correct or remove it"
        )
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        raise DataError(f"{what}: left, top, right, bottom {shown}: has no pixel inside its image")


def as_text(boxes: Marked) -> str:
    """Returns boxes as a table can hold them; an image without boxes is `[]`.

    >>> as_text(np.array([[1, 0, 2, 10.5, 20]]))
    '[[1, 0.0, 2.0, 10.5, 20.0]]'
    """
    return json.dumps([[int(row[0]), *(round(float(value), 4) for value in row[1:])] for row in boxes])


def from_text(text: str) -> Marked:
    """Returns the boxes of a text."""
    return np.array(json.loads(text), np.float64).reshape(-1, 5)


def cut(boxes: Marked, top: float, left: float, bottom: float, right: float) -> Marked:
    """Returns the boxes inside a part of the image, in its own pixels; those that it shows too little of are left out.

    >>> cut(np.array([[1, 0, 0, 10, 10.0], [1, 8, 8, 30, 30]]), 5, 5, 25, 25).tolist()
    [[1.0, 3.0, 3.0, 20.0, 20.0]]
    """
    inside = np.clip(boxes[:, 1:], [left, top, left, top], [right, bottom, right, bottom])
    kept = _areas(inside) >= LEAST_VISIBLE * _areas(boxes[:, 1:])
    return np.column_stack([boxes[kept, :1], inside[kept] - [left, top, left, top]])


def box_counts(boxes: Marked, classes: int) -> list[int]:
    """Returns how many boxes each class has."""
    return [int(count) for count in np.bincount(boxes[:, 0].astype(np.int64), minlength=classes)]


def prepared_boxes(boxes: Marked, shown: Sequence[float], side: int) -> Marked:
    """Returns boxes as `Kind.prepare` shows their image.

    Args:
        boxes: of the image.
        shown: top, left, bottom, right of what fills the prepared square [pixel], of `Kind.box`.
        side: of the square [pixel].
    """
    top, left, bottom, right = shown
    found = cut(boxes, top, left, bottom, right)
    across, down = side / (right - left), side / (bottom - top)
    found[:, 1:] *= [across, down, across, down]
    return found


def cell_labels(boxes: Marked, grid: tuple[int, ...], side: int, classes: int) -> NDArray[np.float32]:
    """Returns the soft label of each cell, float32 `[rows * columns, K]`.

    The share of a box's class is exp(-d^2 / (2 s^2)), d the distance of the cell's centre to the box's in sides of the
    box and s = .2; the nearest cell has 1 (Zhou, Wang, Kraehenbuehl, Objects as Points, 2019, whose radius hangs on
    the box's size too, https://arxiv.org/abs/1904.07850). Of several boxes the largest share counts; the rest of 1 is
    the background's.

    Args:
        boxes: in pixels of the prepared image.
        grid: rows and columns of cells.
        side: of the prepared image [pixel].
        classes: K.
    """
    across, down = _centres(grid, side)
    labels = np.zeros((len(across), classes), np.float32)
    peak = np.zeros(len(across), np.float32)
    for box in boxes:
        distance = _distance(box, across, down)
        share = np.exp(-distance / (2 * _SPREAD**2)).astype(np.float32)
        share[distance.argmin()] = 1.0
        share[share < _LEAST_LABEL] = 0.0
        higher = share > peak
        labels[higher] = 0.0
        labels[higher, int(box[0])] = share[higher]
        peak = np.maximum(peak, share)
    labels[:, 0] = 1.0 - peak
    return labels


def cell_extents(boxes: Marked, grid: tuple[int, ...], side: int) -> NDArray[np.float32]:
    """Returns how far the edges of its box lie from each cell's centre, in cells: float32 `[rows * columns, 4]`.

    Left, top, right, bottom (FCOS: Tian et al., ICCV 2019, equation 1, https://arxiv.org/abs/1904.01355), all positive;
    of several boxes the one whose centre is nearest, in sides of the box. NaN for a cell whose centre is in none;
    a box without a cell's centre has none.
    """
    across, down = _centres(grid, side)
    height, width = side / grid[0], side / grid[1]
    found = np.full((len(across), 4), np.nan, np.float32)
    nearest = np.full(len(across), np.inf)
    for box in boxes:
        distance, (_, left, top, right, bottom) = _distance(box, across, down), box
        edges = np.stack([across - left, down - top, right - across, bottom - down], axis=1)
        own = (edges > 0).all(axis=1) & (distance < nearest)
        nearest[own] = distance[own]
        found[own] = edges[own] / [width, height, width, height]
    return found


def corners(extents: NDArray[np.float32], grid: tuple[int, ...], side: int) -> NDArray[np.float64]:
    """Returns boxes left, top, right, bottom [pixel] inside the prepared image, `[T, 4]`, of `cell_extents`.

    >>> boxes = np.array([[1, 2.0, 3.0, 11.0, 12.0]])
    >>> found = corners(cell_extents(boxes, (4, 4), 16), (4, 4), 16)
    >>> found[5].tolist()
    [2.0, 3.0, 11.0, 12.0]
    """
    across, down = _centres(grid, side)
    height, width = side / grid[0], side / grid[1]
    left, top, right, bottom = extents.astype(np.float64).T * np.array([[width], [height], [width], [height]])
    return np.clip(np.stack([across - left, down - top, across + right, down + bottom], axis=1), 0, side)


def source_labels(
    boxes: pd.DataFrame, index: pd.DataFrame, grid: tuple[int, ...], side: int, classes: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns `cell_labels` of all prepared images, and which cells are labelled: those of images in `boxes`.

    Args:
        boxes: `BOXES`.
        index: `INDEX`, which gives the order.
        grid: rows and columns of cells.
        side: of the prepared image [pixel].
        classes: K.

    Returns:
        float32 `[N, T, K]`, zero where nothing is known, and float32 `[N, T]`, 1 or 0.
    """
    known = dict(zip(boxes["image_id"], boxes["boxes"], strict=True))
    labels = np.zeros((len(index), math.prod(grid), classes), np.float32)
    for place, image_id in enumerate(index["image_id"]):
        if image_id in known:
            labels[place] = cell_labels(from_text(known[image_id]), grid, side, classes)
    return labels, np.asarray(labels.any(axis=2), np.float32)


def source_extents(boxes: pd.DataFrame, index: pd.DataFrame, grid: tuple[int, ...], side: int) -> NDArray[np.float32]:
    """Returns `cell_extents` of all prepared images, float32 `[N * T, 4]`; arguments as of `source_labels`."""
    known = dict(zip(boxes["image_id"], boxes["boxes"], strict=True))
    return np.concatenate([cell_extents(from_text(known.get(i, "[]")), grid, side) for i in index["image_id"]])


def _areas(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(corners[:, 2] - corners[:, 0], 0) * np.maximum(corners[:, 3] - corners[:, 1], 0)


def _centres(grid: tuple[int, ...], side: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    down, across = np.indices(grid[:2]).reshape(2, -1)
    return (across + 0.5) * side / grid[1], (down + 0.5) * side / grid[0]


def _distance(box: NDArray[np.float64], across: Any, down: Any) -> NDArray[np.float64]:
    """Returns the squared distance of cells to a box's centre, in sides of the box."""
    _, left, top, right, bottom = box
    distance: NDArray[np.float64] = ((across - (left + right) / 2) / (right - left)) ** 2
    distance += ((down - (top + bottom) / 2) / (bottom - top)) ** 2
    return distance

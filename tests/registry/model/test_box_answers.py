"""Boxes of several windows over one image: those that a window cut off give way to whole ones of its neighbours."""

import tracemalloc
from dataclasses import dataclass
from typing import Any

import numpy as np

from isthmus.data.boxes import cell_extents, cell_labels
from isthmus.data.image import Box
from isthmus.registry.model.box_answers import _covered, _merged, boxes_of_text, boxes_text
from isthmus.registry.model.windows import Windows

SIDE, GRID = 64, (8, 8)


@dataclass
class Parts:
    """The part of a model that says how large its grid is."""

    classifier: Any


@dataclass
class Grid:
    """Rows and columns of cells."""

    grid: tuple[int, int] = GRID


def merged(boxes: np.ndarray, windows: list[Box], width: int) -> np.ndarray:
    """Returns what a model answers that sees in each window exactly the parts of the boxes inside it."""
    logits, extents = [], []
    for window in windows:
        inside = boxes.copy()
        inside[:, [1, 3]] = np.clip(boxes[:, [1, 3]] - window.left, 0, window.width)
        inside[:, [2, 4]] = np.clip(boxes[:, [2, 4]] - window.top, 0, window.height)
        inside = inside[(inside[:, 3] - inside[:, 1] > 2) & (inside[:, 4] - inside[:, 2] > 2)]
        logits.append(np.log(np.maximum(cell_labels(inside, GRID, SIDE, 2), 1e-6)))
        extents.append(np.nan_to_num(cell_extents(inside, GRID, SIDE), nan=0.01))
    squares = [(0.0, 0.0, 64.0, 64.0)] * len(windows)
    pixels = np.zeros((len(windows), SIDE, SIDE, 3), np.uint8)
    found = _merged(
        Parts(Grid()),  # type: ignore[arg-type]
        Windows(SIDE, width, None, windows, squares, pixels),
        np.concatenate(logits),
        np.concatenate(extents),
    )
    return found.corners[found.scores > 0.9]


def test_a_box_that_one_window_cuts_off_and_another_shows_whole_is_answered_whole() -> None:
    windows = [Box(0, 0, 64, 64), Box(0, 40, 64, 64)]

    found = merged(np.array([[1, 44.0, 10, 76, 40], [1, 6, 6, 30, 30]]), windows, 104)

    assert sorted(np.round(found).tolist()) == [[6, 6, 30, 30], [44, 10, 76, 40]]


def test_a_box_in_one_window_alone_keeps_its_place_and_one_that_ends_with_the_image_is_whole() -> None:
    windows = [Box(0, 0, 64, 64), Box(0, 40, 64, 64)]

    found = merged(np.array([[1, 70.0, 30, 104, 64]]), windows, 104)

    assert np.round(found).tolist() == [[70, 30, 104, 64]]


def test_many_cut_off_boxes_are_compared_with_their_neighbours_alone() -> None:
    rng, count = np.random.default_rng(0), 3000
    low = rng.uniform(0, 20_000, (2 * count, 2))
    table = np.column_stack([low, low + 40, rng.integers(1, 3, 2 * count), rng.random(2 * count)])
    parts, whole = table[:count], table[count:]
    parts[:100, :5] = whole[:100, :5] + [5, 5, 0, 0, 0]
    tracemalloc.start()

    covered = _covered(parts, whole)

    assert tracemalloc.get_traced_memory()[1] < 2_000_000  # a table of all pairs has 72 MB
    tracemalloc.stop()
    assert covered[:100].all()
    assert covered.sum() < 200


def test_boxes_survive_their_text() -> None:
    found = boxes_of_text('[{"box": [1.5, 2, 3, 4], "label": "cell", "score": 0.25}]', ["ground", "cell"])

    assert boxes_text(found, ["ground", "cell"]) == '[{"box": [1.5, 2.0, 3.0, 4.0], "label": "cell", "score": 0.25}]'
    assert boxes_of_text("[]", ["ground"]).corners.shape == (0, 4)

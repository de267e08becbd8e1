"""Boxes from logits and extents of cells, and the true boxes of each image, in the order of the prepared index."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.core.files import read_json
from isthmus.data.boxes import corners, from_text
from isthmus.data.manifest import BOXES, INDEX, read_table
from isthmus.data.shards import cells_of
from isthmus.evaluation.metrics import softmax
from isthmus.evaluation.scoring.boxes import Boxes, Detections, suppress
from isthmus.evaluation.trained import Trained, grid_of

LEAST_SCORE = 0.05  # [share] under which a cell answers no box
MAX_IOU = 0.5  # [share] of two boxes of one class, above which they are one object
_MOST = 1000  # boxes of an image that are compared


class TrueBoxes:
    """Boxes of all prepared images, in pixels of these.

    Args:
        prepared: of `prepare`, with the source's boxes.
        target: folder with the target's; None: they are not looked at.
    """

    def __init__(self, prepared: Path, target: Path | None = None) -> None:
        index = read_table(prepared / "index.parquet", INDEX)
        self.side = int(read_json(prepared / "facts.json")["height"])
        known: dict[str, str] = {}
        for folder in [prepared, *([target] if target else [])]:
            table = read_table(folder / "boxes.parquet", BOXES)
            known |= dict(zip(table["image_id"], table["boxes"], strict=True))
        self._texts = [known.get(image_id) for image_id in index["image_id"]]

    def known(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Says of each of these images whether its boxes are known, `[n]`; it may have none."""
        return np.array([self._texts[row] is not None for row in rows], np.bool_)

    def take(self, rows: NDArray[np.int64]) -> list[Boxes]:
        """Returns the boxes of these images, none of those that are not known."""
        found = [from_text(self._texts[row] or "[]") for row in rows]
        return [Boxes(boxes[:, 1:], boxes[:, 0].astype(np.int64)) for boxes in found]


def detections(
    logits: NDArray[np.floating], extents: NDArray[np.float32], grid: tuple[int, ...], side: int
) -> Detections:
    """Returns the boxes of an image, the highest score first: each cell's, less those that another one covers.

    The score is the probability of the class; the first class is the background and has no box.

    Args:
        logits: `[T, K]` of the cells, row by row.
        extents: `[T, 4]` of the cells' boxes, in cells.
        grid: rows and columns of cells.
        side: of the image [pixel].
    """
    scores = softmax(logits)[:, 1:]
    cells, classes = np.nonzero(scores >= LEAST_SCORE)
    boxes, values = corners(extents, grid, side)[cells], scores[cells, classes].astype(np.float64)
    best = np.argsort(-values, kind="stable")[:_MOST]
    best = best[suppress(boxes[best], values[best], classes[best], MAX_IOU)]
    return Detections(boxes[best], classes[best] + 1, values[best])


def counted(found: Detections, threshold: float, classes: int) -> list[int]:
    """Returns how many boxes of each class but the first reach a score."""
    here = found.classes[found.scores >= threshold]
    return [int(count) for count in np.bincount(here, minlength=classes)[1:]]


def predicted_boxes(run: Trained, seed: int, epoch: int, rows: NDArray[np.int64], side: int) -> list[Detections]:
    """Returns the boxes that one seed of a method finds in these images.

    Args:
        run: the method.
        seed: of its seeds.
        epoch: a kept one.
        rows: images.
        side: of the prepared image [pixel].
    """
    logits, extents, grid = run.logits(seed, epoch), run.extents(seed, epoch), grid_of(run)
    cells = [cells_of(rows[n : n + 1], grid[0] * grid[1]) for n in range(len(rows))]
    return [detections(logits[here], extents[here], grid, side) for here in cells]

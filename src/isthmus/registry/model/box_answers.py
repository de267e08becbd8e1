"""Boxes of whole images, of any size: those of all windows, less those that another one covers."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from isthmus.data.boxes import cut
from isthmus.data.image import Box, Image
from isthmus.evaluation.boxes import MAX_IOU, counted, detections
from isthmus.evaluation.metrics import softmax
from isthmus.evaluation.scoring.boxes import Detections, beside, suppress
from isthmus.registry.model.answers import ModelParts, TaskAnswers
from isthmus.registry.model.windows import Windows, windows_of

_EDGE = 0.02  # [share] of a window's side: a box that ends so near to where it was cut off is a part of an object
_COVERED = 0.5  # [share] of a part that a whole box of a neighbouring window covers, and it is of the same object


class BoxAnswers(TaskAnswers):
    """The boxes of one image.

    `boxes` is JSON, a list of `{"box": [left, top, right, bottom], "label": class, "score": probability}` with the
    highest score first, in pixels of the image as it was given (after its EXIF turn), from the outer edge of its first
    pixel. `count_<class>` is how many of them reach `threshold`, the score at which they were best on the source,
    `confidence` the mean of the highest probability of a cell, `domain_score` as of classification.
    """

    at_once: ClassVar[int] = 1

    @staticmethod
    def outputs(classes: Sequence[str]) -> dict[str, str]:
        """Returns the columns; see `TaskAnswers`."""
        counts = {f"count_{name}": "long" for name in classes[1:]}
        numbers = {"threshold": "double", "confidence": "double", "domain_score": "double"}
        return {"boxes": "string", "height": "long", "width": "long"} | counts | numbers

    def prepare(self, parts: ModelParts, example: Sequence[Image], domain: str) -> Windows:
        """Returns the windows of an image; see `windows_of`."""
        return windows_of(parts, example, domain)

    def answer(self, parts: ModelParts, prepared: list[Any], domain: str) -> pd.DataFrame:
        """Returns a row an image; see the class."""
        return pd.DataFrame([self._row(parts, windows, domain) for windows in prepared])

    def _row(self, parts: ModelParts, windows: Windows, domain: str) -> dict[str, Any]:
        embeddings, logits, _, extents = parts.classifier.predict_all(windows.pixels, domain)
        found = _merged(parts, windows, logits, extents)
        threshold = parts.spec["promise"]["boxes_from"]
        counts = dict(zip(parts.classes[1:], counted(found, threshold, len(parts.classes)), strict=True))
        return {
            "boxes": boxes_text(found, parts.classes),
            "height": windows.height,
            "width": windows.width,
            **{f"count_{name}": count for name, count in counts.items()},
            "threshold": threshold,
            "confidence": float(softmax(logits).max(axis=1).mean()),
            "domain_score": float(parts.typicality[domain].scores(embeddings).mean()),
        }


def boxes_text(found: Detections, classes: Sequence[str]) -> str:
    """Returns boxes as JSON, the highest score first.

    >>> boxes_text(Detections(np.array([[1.0, 2, 3, 4]]), np.array([1]), np.array([0.5])), ["background", "cell"])
    '[{"box": [1.0, 2.0, 3.0, 4.0], "label": "cell", "score": 0.5}]'
    """
    rows = zip(found.corners, found.classes, found.scores, strict=True)
    return json.dumps(
        [
            {"box": [round(float(v), 4) for v in box], "label": classes[k], "score": round(float(score), 6)}
            for box, k, score in rows
        ]
    )


def boxes_of_text(text: str, classes: Sequence[str]) -> Detections:
    """Returns the boxes of `boxes_text`."""
    rows = json.loads(text)
    return Detections(
        np.array([row["box"] for row in rows], np.float64).reshape(-1, 4),
        np.array([list(classes).index(row["label"]) for row in rows], np.int64),
        np.array([row["score"] for row in rows], np.float64),
    )


def _merged(parts: ModelParts, windows: Windows, logits: Any, extents: Any) -> Detections:
    """Returns the boxes of all windows in pixels of the image."""
    grid, side, count = parts.classifier.grid, windows.pixels.shape[1], len(windows.boxes)
    found: list[NDArray[np.float64]] = []
    for cells, own, box, shown in zip(
        logits.reshape(count, -1, logits.shape[1]), extents.reshape(count, -1, 4), windows.boxes, windows.squares,
        strict=True,
    ):  # fmt: skip
        here = detections(cells, own, grid, side)
        top, left, bottom, right = shown
        across, down = (right - left) / side, (bottom - top) / side
        corners = here.corners * [across, down, across, down] + [left, top, left, top]
        inside = cut(np.column_stack([np.arange(len(corners)), corners]), 0, 0, box.height, box.width)
        places = inside[:, 0].astype(np.int64)
        inside[:, 1:] += [box.left, box.top, box.left, box.top]
        ends = _cut_off(inside[:, 1:], box, windows)
        found.append(np.column_stack([inside[:, 1:], here.classes[places], here.scores[places], ends]))
    table = np.concatenate(found)
    ends = table[:, 6] > 0
    seen_whole = np.zeros(len(table), np.bool_)
    seen_whole[ends] = _covered(table[ends], table[~ends])
    table = table[~seen_whole]
    corners, classes, scores = table[:, :4], table[:, 4].astype(np.int64), table[:, 5]
    kept = suppress(corners, scores, classes, MAX_IOU)
    return Detections(corners[kept], classes[kept], scores[kept])


def _covered(table: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Says of each box whether one of the whole boxes of its class covers most of it."""
    covered = np.zeros(len(table), np.bool_)
    for place, near in enumerate(beside(table[:, :4], whole[:, :4])):
        box, others = table[place], whole[near]
        least, most = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:4], others[:, 2:4])
        shared = np.prod(np.maximum(most - least, 0), axis=1)
        covered[place] = ((others[:, 4] == box[4]) & (shared > _COVERED * np.prod(box[2:4] - box[:2]))).any()
    return covered


def _cut_off(corners: NDArray[np.float64], box: Box, windows: Windows) -> NDArray[np.bool_]:
    """Says of each box whether it ends at an edge of its window inside the image: its neighbour may see more of it."""
    margin = _EDGE * max(box.height, box.width)
    left, top, right, bottom = corners.T
    ends = (left < box.left + margin) & (box.left > 0)
    ends |= (top < box.top + margin) & (box.top > 0)
    ends |= (right > box.left + box.width - margin) & (box.left + box.width < windows.width)
    ends |= (bottom > box.top + box.height - margin) & (box.top + box.height < windows.height)
    return np.asarray(ends, np.bool_)

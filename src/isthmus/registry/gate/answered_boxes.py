"""Compares the boxes that a registered model answered with the true ones, in pixels of the raw images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from isthmus.data.boxes import from_text
from isthmus.data.manifest import COMPANIONS, read_table
from isthmus.evaluation.scoring.boxes import Boxes, Detections, Matches, match_boxes
from isthmus.evaluation.trained import UNKNOWN
from isthmus.gates.scored import places_among
from isthmus.registry.lineage.lineage import Lineage
from isthmus.registry.model.box_answers import boxes_of_text
from isthmus.registry.publish.packaging import scenario_of


@dataclass(frozen=True)
class AnsweredBoxes:
    """The true boxes of the evaluation set.

    Attributes:
        column: of the answers.
        texts: of each image in the order of the set; empty where they are not known.
        classes: of the scenario.
    """

    column: ClassVar[str] = "boxes"

    texts: list[str]
    classes: list[str]

    def count(self, path: Path, classes: Sequence[str]) -> None:
        """Replaces the column `boxes` of a scorer's answers by what they are worth at an IoU of .5.

        Boxes of a class of the model that the scenario does not have are left out. Columns `scores`, `classes`,
        `right` (a list an image, a place a box) and `true_boxes` (by class).
        """
        rows = pd.read_parquet(path)
        found = [_as_ours(boxes_of_text(text, classes), classes, self.classes) for text in rows["boxes"]]
        truth = [from_text(text or "[]") for text in self.texts]
        matches = match_boxes(
            found, [Boxes(boxes[:, 1:], boxes[:, 0].astype(np.int64)) for boxes in truth], len(self.classes)
        )
        pq.write_table(_table(rows, matches), path)


def _as_ours(found: Detections, theirs: Sequence[str], ours: Sequence[str]) -> Detections:
    """Returns the boxes whose class the scenario has, with its numbers."""
    number = places_among(theirs, ours)[found.classes]
    known = number != UNKNOWN
    return Detections(found.corners[known], number[known], found.scores[known])


def _table(rows: pd.DataFrame, matches: Matches) -> pa.Table:
    here = [np.flatnonzero(matches.images == n) for n in range(len(rows))]
    return pa.table(
        {
            "image_id": list(rows["image_id"]),
            "sha256": list(rows["sha256"]),
            "threshold": list(rows["threshold"]),
            "scores": pa.array([matches.scores[n] for n in here], pa.list_(pa.float64())),
            "classes": pa.array([matches.classes[n] for n in here], pa.list_(pa.int32())),
            "right": pa.array([matches.right[0, n] for n in here], pa.list_(pa.bool_())),
            "true_boxes": pa.array(list(matches.true_boxes), pa.list_(pa.int32())),
        }
    )


def answered_boxes(lineage: Lineage, images: pd.DataFrame) -> AnsweredBoxes | None:
    """Returns the true boxes; None where the answers are none.

    Args:
        lineage: of the results.
        images: the evaluation set.
    """
    scenario = scenario_of(lineage)
    if not scenario.annotation_config().boxes:
        return None
    table = read_table(lineage.path("ingest", "companions"), COMPANIONS).set_index("image_id")["boxes"]
    return AnsweredBoxes(list(table.loc[images["image_id"]]), scenario.classes)

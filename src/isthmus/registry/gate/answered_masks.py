"""Compares the masks that a registered model answered with the true ones, at the size of the raw images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from isthmus.core.errors import DataError
from isthmus.data.manifest import COMPANIONS, read_table
from isthmus.data.masks import IGNORED, Mask
from isthmus.data.preprocess.tiling import ChangedError, read_mask
from isthmus.data.tasks import AnnotationConfig
from isthmus.evaluation.scoring.masks import confusions
from isthmus.evaluation.trained import UNKNOWN
from isthmus.gates.scored import places_among
from isthmus.registry.lineage.lineage import Lineage
from isthmus.registry.model.mask_text import from_text
from isthmus.registry.publish.packaging import scenario_of


@dataclass(frozen=True)
class AnsweredMasks:
    """Where the true masks of the evaluation set are.

    Attributes:
        column: of the answers.
        raw: the folder that paths are relative to.
        images: columns `image_id, part, label, mask, mask_sha256`, in the order of the evaluation set.
    """

    column: ClassVar[str] = "mask"

    raw: Path
    images: pd.DataFrame
    answers: AnnotationConfig
    classes: list[str]

    def count(self, path: Path, classes: Sequence[str]) -> None:
        """Replaces the column `mask` of a scorer's answers by `counts`, pixels by true and answered class.

        Args:
            path: of the answers.
            classes: of the model. A pixel of one that the scenario does not have counts as one of its other classes.

        Raises:
            DataError: a true mask is missing or was changed.
        """
        rows = pd.read_parquet(path)
        counts = [
            self._of(text, row, classes) for text, row in zip(rows["mask"], self.images.itertuples(), strict=True)
        ]
        table = pa.table(
            {
                "image_id": list(rows["image_id"]),
                "sha256": list(rows["sha256"]),
                "counts": pa.array(counts, pa.list_(pa.int64())),
            }
        )
        pq.write_table(table, path)

    def _of(self, text: str, row: Any, classes: Sequence[str]) -> list[int]:
        size = len(self.classes)
        if pd.isna(row.label):
            return [0] * size**2
        truth, answered = self._truth(row), from_text(text)
        if answered.shape != truth.shape:
            raise DataError(
                f"image {row.image_id}: the model answers a mask of {' x '.join(map(str, answered.shape))} pixels for"
                f" an image of {' x '.join(map(str, truth.shape))}"
            )
        truth = np.where(answered == IGNORED, np.uint8(IGNORED), truth)  # outside of what the model looks at
        answered = self._as_ours(answered, truth, classes)
        return [int(value) for value in confusions(answered[None], truth[None], size).ravel()]

    def _as_ours(self, answered: Mask, truth: Mask, classes: Sequence[str]) -> Mask:
        """Returns the model's classes as those of the scenario."""
        ours = np.full(256, IGNORED, np.uint8)
        places = places_among(classes, self.classes)
        ours[: len(classes)] = np.where(places == UNKNOWN, IGNORED, places)
        named = ours[answered]
        return np.where((named == IGNORED) & (answered != IGNORED), (truth == 0).astype(np.uint8), named)

    def _truth(self, row: Any) -> Mask:
        try:
            return read_mask(self.raw / row.mask, row.part, row.mask_sha256, self.answers, tuple(self.classes))
        except ChangedError:
            raise DataError(
                f"{self.raw}: the mask of image {row.image_id} is missing or changed. Restore it with 'dvc checkout',"
                " or run 'dvc repro' and publish again"
            ) from None


def answered_masks(lineage: Lineage, images: pd.DataFrame) -> AnsweredMasks | None:
    """Returns where the true masks are; None where the answers are none.

    Args:
        lineage: of the results.
        images: the evaluation set.
    """
    scenario = scenario_of(lineage)
    answers = scenario.annotation_config()
    if not answers.masks:
        return None
    masks = read_table(lineage.path("ingest", "companions"), COMPANIONS).set_index("image_id")["mask"]
    table = images.assign(mask=masks.loc[images["image_id"]].to_numpy(dtype=object))
    return AnsweredMasks(lineage.project / lineage.raw[0], table, answers, scenario.classes)

"""Masks: rows of logits are cells of an image's grid. What segmentation and change share."""

from pathlib import Path
from typing import ClassVar

import numpy as np

from isthmus.core.accuracy import balanced_accuracy
from isthmus.data.manifest import INDEX, read_table
from isthmus.data.masks import source_cells
from isthmus.evaluation.guards import TaskGuards
from isthmus.evaluation.metrics import ONE_CLASS, Predictions, collapsed, confusion, effective_classes
from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.evaluation.trained import UNKNOWN, Samples, Trained, grid_of

_FEWEST = 0.5  # [share] of the way from one class to the source's effective classes; see `collapsed`


class MaskGuards(TaskGuards):
    """Of masks; rows are cells."""

    average: ClassVar[tuple[str, ...]] = ("domain_randomisation",)
    validators: ClassVar[bool] = False

    def rows(self, samples: Samples, runs: dict[str, Trained], prepared: Path) -> Samples:
        """Returns the cells; the label of a source cell is its most frequent class, if any of its pixels is scored."""
        index = read_table(prepared / "index.parquet", INDEX)
        run = runs[SOURCE_ONLY]
        shares, scored = source_cells(prepared, index, grid_of(run), len(run.facts.classes))
        label = np.where(scored > 0, shares.argmax(axis=2), UNKNOWN).reshape(-1)
        image_id, domain, split, group = (
            np.repeat(column, run.facts.cells)
            for column in (samples.image_id, samples.domain, samples.split, samples.group)
        )
        return Samples(image_id, domain, split, group, label)

    def learned(self, predicted: Predictions, labels: Predictions, significance: float) -> tuple[bool, float]:
        """Says whether predictions and labels of cells hang together, and recall is above that of guessing.

        Chi-squared test of independence on the mean confusion matrix, as most of an image is one class: naming that
        class always is right often, and learned nothing. Cells of an image are alike, so the p-value is too small: the
        test is a guard against failure and no proof.
        """
        from scipy.stats import chi2_contingency

        classes = int(max(predicted.max(), labels.max())) + 1
        recall = float(np.mean([balanced_accuracy(row, labels) for row in predicted]))
        counts = np.mean([confusion(row, labels, classes) for row in predicted], axis=0)
        counts = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
        if min(counts.shape) < 2:
            return len(counts) < 2, 1.0  # one class alone in the labels: nothing could be shown
        p_value = float(chi2_contingency(counts).pvalue)
        return p_value < significance and recall > 1 / len(counts), p_value

    def collapsed(self, predicted: Predictions, source_labels: Predictions, classes: int) -> bool:
        """Says whether the target's cells are nearly all of one class, measured by how even the source's are.

        Most of an image may be background in truth, so that 99% of the cells of one class need be no collapse: the
        limit of effective classes is halfway from one to the source's, or that of images where this is lower.
        """
        even = effective_classes(np.eye(classes)[source_labels])
        return collapsed(predicted, classes, min(ONE_CLASS, 1 + _FEWEST * (even - 1)))

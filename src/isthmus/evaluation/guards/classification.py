"""One class an image."""

from pathlib import Path
from typing import ClassVar

import numpy as np

from isthmus.evaluation.guards import TaskGuards
from isthmus.evaluation.metrics import Predictions, above_guessing, accuracy, collapsed
from isthmus.evaluation.trained import Samples, Trained


class Guards(TaskGuards):
    """Of classes of images."""

    average: ClassVar[tuple[str, ...]] = ("zscore", "mcc")

    def rows(self, samples: Samples, runs: dict[str, Trained], prepared: Path) -> Samples:
        """Returns the images themselves."""
        return samples

    def learned(self, predicted: Predictions, labels: Predictions, significance: float) -> tuple[bool, float]:
        """Says whether they are better than naming the most frequent class always."""
        right = float(np.mean([accuracy(row, labels) for row in predicted]))
        return above_guessing(right, labels, significance)

    def collapsed(self, predicted: Predictions, source_labels: Predictions, classes: int) -> bool:
        """Says whether over 99% of the images get one class."""
        return collapsed(predicted, classes)

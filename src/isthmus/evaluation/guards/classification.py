"""One class an image."""

from pathlib import Path
from typing import ClassVar

from isthmus.evaluation.guards import TaskGuards
from isthmus.evaluation.metrics import Predictions, above_chance, collapsed
from isthmus.evaluation.trained import Samples, Trained


class Guards(TaskGuards):
    """Of classes of images."""

    average: ClassVar[tuple[str, ...]] = ("zscore", "mcc")

    def rows(self, samples: Samples, runs: dict[str, Trained], prepared: Path) -> Samples:
        """Returns the images themselves."""
        return samples

    def learned(self, predicted: Predictions, labels: Predictions, significance: float) -> tuple[bool, float]:
        """Says whether balanced accuracy is better than by chance: an uneven source has rare classes to learn too."""
        return above_chance(predicted, labels, significance)

    def collapsed(self, predicted: Predictions, source_labels: Predictions, classes: int) -> bool:
        """Says whether over 99% of the images get one class."""
        return collapsed(predicted, classes)

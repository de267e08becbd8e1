"""Good or defective: most of the target is good, and the source may have no defect to learn by."""

from typing import ClassVar

import numpy as np

from isthmus.evaluation.guards import classification
from isthmus.evaluation.metrics import Predictions, confusion
from isthmus.evaluation.selection.choice import Words

_MOST_ALARMS = 0.5  # [share] of the target's training images; a threshold that fails calls most of them defective


class Guards(classification.Guards):
    """Of good and defective images."""

    average: ClassVar[tuple[str, ...]] = ("target_memory",)
    averages: ClassVar[bool] = False  # distances of two memories have no common scale
    validators: ClassVar[bool] = False
    words: ClassVar[Words] = Words(
        "more than half of the target's training images are called defective",
        "defects of the source's validation split raise alarms less often than its good images",
    )

    def learned(self, predicted: Predictions, labels: Predictions, significance: float) -> tuple[bool, float]:
        """Says whether defects raise alarms no less often than good images, as far as the source has both.

        Fisher's exact test that they do so less often: a few defects cannot show that a detector works, and without any
        there is nothing to show.
        """
        from scipy.stats import fisher_exact

        counts = np.sum([confusion(row, labels, 2) for row in predicted], axis=0)
        if not counts.sum(axis=1).all():
            return True, 1.0
        p_value = float(fisher_exact(counts // len(predicted), alternative="less").pvalue)
        return p_value >= significance, p_value

    def collapsed(self, predicted: Predictions, source_labels: Predictions, classes: int) -> bool:
        """Says whether more than half of the target's training images are called defective."""
        return bool((predicted == 1).mean() > _MOST_ALARMS)

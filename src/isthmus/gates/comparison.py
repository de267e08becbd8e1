"""Candidate minus champion on the same images, resampled together: what rules compare with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.core.accuracy import balanced_accuracy
from isthmus.core.seeds import derive_seed
from isthmus.evaluation.metrics import Reals, group_weights, interval, resampled_balanced_accuracy
from isthmus.evaluation.scoring.boxes import Matches, ap50, average_precisions
from isthmus.evaluation.scoring.masks import mean_iou, resampled
from isthmus.gates.scored import Answers, Scored


@dataclass(frozen=True)
class Difference:
    """Candidate minus champion in the task's metric [share], with a 95% interval by group, over `images`."""

    mean: float
    low: float
    high: float
    images: int

    def worse(self, margin: float) -> str:
        """Returns in what the candidate is worse, empty where it is not."""
        if self.high < 0:
            return "the whole interval lies below zero"
        return f"the mean is below -{margin:.3f}" if self.mean < -margin else ""

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}] on {self.images} images"


def paired_difference(scored: Scored, champion: Answers, role: str, resamples: int) -> Difference:
    """Returns the paired difference over the labelled images of a role; groups are drawn, never single images.

    Both models are resampled with the same draws (cluster bootstrap: Field & Welsh, JRSS B 2007).
    """
    rows = scored.labelled(role)
    weights = group_weights(scored.images["group"].to_numpy()[rows], resamples, derive_seed(0, "gate", role))
    if scored.candidate.counts is not None and champion.counts is not None:
        counts = np.stack([scored.candidate.counts[rows], champion.counts[rows]])
        one, other = (float(value) for value in mean_iou(counts.sum(axis=1)))
        drawn = resampled(mean_iou, counts, weights)
        low, high = interval(drawn[:, 0] - drawn[:, 1])
        return Difference(one - other, low, high, len(rows))
    if scored.candidate.matches is not None and champion.matches is not None:
        return _of_boxes(scored.candidate.matches, champion.matches, rows, weights)
    labels = scored.label[rows]
    right = np.stack([scored.right(scored.candidate)[rows], scored.right(champion)[rows]])
    # a right answer is the label itself, a wrong one is none of the classes: balanced accuracy needs no more
    means = [balanced_accuracy(np.where(row, labels, -1), labels) for row in right]
    drawn = resampled_balanced_accuracy(right, labels, weights)
    low, high = interval(drawn[:, 0] - drawn[:, 1])
    return Difference(means[0] - means[1], low, high, len(rows))


def _of_boxes(one: Matches, other: Matches, rows: NDArray[np.int64], weights: Reals) -> Difference:
    """Returns the difference in AP50, NaN without a true box; the first line of weights is of all images."""
    whole = np.zeros((1 + len(weights), len(one.true_boxes)))
    whole[0, rows], whole[1:, rows] = 1, weights
    apart = ap50(average_precisions(one, whole)) - ap50(average_precisions(other, whole))
    defined = apart[1:][~np.isnan(apart[1:])]
    low, high = interval(defined) if len(defined) else (np.nan, np.nan)
    return Difference(float(apart[0]), low, high, len(rows))

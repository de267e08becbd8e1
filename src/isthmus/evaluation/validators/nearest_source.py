"""Accuracy on the source, weighted by how near it lies to the target.

The idea is importance-weighted validation: Sugiyama, Krauledat & Mueller, "Covariate Shift Adaptation by
Importance Weighted Cross Validation", JMLR 2007. The weights are Loog's, "Nearest Neighbor-Based
Importance Weighting", IEEE MLSP 2012, https://arxiv.org/abs/2102.02291: a source sample weighs as much as the
number of target samples whose nearest source sample it is. `NearestSourceValidator` of pytorch-adapt, which has no
paper of its own, adds that a target sample far from all of the source counts less. With n(t) the source sample
nearest to target sample t (Euclidean, features after the bottleneck) and d(t) its distance:

    score = 1/T sum_t w_t [prediction of n(t) is right],    w_t = min(1, d_source / d(t))

d_source is the median distance of a source sample to its nearest other source sample. pytorch-adapt scales by the
largest similarity in the batch instead: one outlier then moves every weight, and constant features divide by zero.
Scaling by the source's own spacing makes the score comparable between models whose features differ in scale.

Known failure: it sees where the features lie, not which class they are of: a model that moves the target onto the
source with its classes swapped, or all of it onto one source class, scores as high as a right one.
"""

from typing import final

import numpy as np
from numpy.typing import NDArray

from isthmus.evaluation.validators import Trial, Validator, ValidatorConfig

_BLOCK = 2048  # rows whose distances are held at once


class Config(ValidatorConfig):
    """Has no options."""

    def build(self) -> Validator:
        """Returns the validator."""
        return NearestSource()


@final
class NearestSource(Validator):
    """Source accuracy as the target would weigh it, in [0, 1]."""

    def score(self, trial: Trial) -> float:
        """Returns the weighted share of right source predictions."""
        # Distances do not change when a row is subtracted, and constant features become exactly zero.
        origin = trial.source_features[0].astype(np.float64)
        source, target = trial.source_features - origin, trial.target_features - origin
        right = trial.source_logits.argmax(axis=1) == trial.source_labels
        nearest, distance = _nearest(target, source, skip_self=False)
        weight = np.ones(len(target))
        if len(source) > 1:
            spacing = float(np.median(_nearest(source, source, skip_self=True)[1]))
            np.divide(spacing, distance, out=weight, where=distance > spacing)
        return float((weight * right[nearest]).mean())


def _nearest(
    rows: NDArray[np.float64], among: NDArray[np.float64], *, skip_self: bool
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    squared = (among**2).sum(axis=1)
    noise = 1e-12 * float(max(squared.max(), (rows**2).sum(axis=1).max()))  # cancellation below this is not a distance
    places, distances = [], []
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        table = (block**2).sum(axis=1)[:, None] + squared - 2 * block @ among.T
        table[table < noise] = 0.0
        if skip_self:
            table[np.arange(len(block)), start + np.arange(len(block))] = np.inf
        places.append(table.argmin(axis=1))
        distances.append(np.sqrt(table.min(axis=1)))
    return np.concatenate(places), np.concatenate(distances)

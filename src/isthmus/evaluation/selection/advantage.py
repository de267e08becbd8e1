"""Is it shown, without target labels, that a candidate is better than source-only? A paired test on the way back.

Without labels "no worse than source-only" cannot be measured on the target. What can be measured is whether the
candidate's answers there, carried back to the labelled source (`validators/reverse_validation.py`), are right more
often than source-only's:

    d = balanced accuracy of the way back, candidate - source-only, mean over seeds
    p = (1 + number of resamples with d <= 0) / (1 + number of resamples)

Resamples are drawn by group (patient, scene, lot) and are the same for both: paired bootstrap, Efron & Tibshirani, "An
Introduction to the Bootstrap", 1993, chapter 16; the added one keeps p above zero (Phipson & Smyth, 2010). The choice
leaves source-only only where p is under a level that the user names (`choice.py`).

Known failure: that of reverse validation. Where the features themselves moved, answers that follow the geometry come
back better and are worse (simulated `industrial` under another tone curve: p 0.001, 3.6 points lost).
"""

import numpy as np

from isthmus.evaluation.metrics import Predictions, group_weights, resampled_balanced_accuracy
from isthmus.evaluation.selection.candidates import Views, trials
from isthmus.evaluation.trained import Samples, Trained
from isthmus.evaluation.validators.reverse_validation import ReverseValidation

RESAMPLES = 1000


def paired_p_value(candidate: Predictions, floor: Predictions, labels: Predictions, groups: Predictions) -> float:
    """Returns the one-sided p-value that the candidate's way back is no better.

    Args:
        candidate: int64 `[R, S]`, classes given to source images by the way back of each seed.
        floor: int64 `[R', S]`, the same of source-only.
        labels: int64 `[S]`.
        groups: `[S]`, what is resampled as one.

    >>> paired_p_value(np.array([[0, 1, 0, 1]]), np.array([[0, 1, 0, 1]]), np.array([0, 1, 0, 1]), np.arange(4))
    1.0
    """
    drawn = group_weights(groups, RESAMPLES, 0)
    means = [resampled_balanced_accuracy(rows == labels, labels, drawn).mean(axis=1) for rows in (candidate, floor)]
    # Rounded: equal answers of other seeds may differ in the last bit, and are no advantage.
    return float((1 + (np.round(means[0] - means[1], 9) <= 0).sum()) / (1 + RESAMPLES))


def reverse_p_value(
    candidate: tuple[Trained, int], floor: tuple[Trained, int], views: Views, samples: Samples, way: ReverseValidation
) -> float:
    """Returns the p-value of a candidate (method, epoch) against one of source-only.

    Args:
        candidate: what was trained, and its epoch.
        floor: source-only, and its epoch.
        views: the rows, from `candidates.views_of`.
        samples: facts of the images; groups are read.
        way: the classifier that goes back.
    """
    backs = [np.stack([way.back(trial) for trial in trials(run, epoch, views)]) for run, epoch in (candidate, floor)]
    return paired_p_value(backs[0], backs[1], views.labels, samples.group[views.source])

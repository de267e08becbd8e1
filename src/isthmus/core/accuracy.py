"""The score and the numeric floor that training, models and evaluation share."""

import numpy as np
from numpy.typing import NDArray

LEAST_PROBABILITY = 1e-12  # of a mean of probabilities whose logarithm is a logit: zero has none


def balanced_accuracy(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Returns the mean recall over the classes that are present among the labels.

    >>> balanced_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]))
    0.75
    """
    return float(np.mean([(predicted[labels == k] == k).mean() for k in np.unique(labels)]))

"""The score that everything here is judged by, for training and evaluation alike."""

import numpy as np
from numpy.typing import NDArray


def balanced_accuracy(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Returns the mean recall over the classes that are present among the labels.

    >>> balanced_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]))
    0.75
    """
    return float(np.mean([(predicted[labels == k] == k).mean() for k in np.unique(labels)]))

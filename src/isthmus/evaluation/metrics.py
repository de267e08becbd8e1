"""Numbers that judge predictions: with labels (accuracy, recall, intervals) and without (entropy, agreement)."""

from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

Predictions = NDArray[np.int64]
Reals = NDArray[np.float64]
INTERVAL = (2.5, 97.5)  # percentiles of a 95% interval
ONE_CLASS = 1.05  # effective classes of the hard predictions: under it, over 99% of the images are of one class
_ABOVE_ONE = 0.4  # of the share, above one class: with two classes a share of 0.5 asks for 1.2 effective classes


class ClassScores(TypedDict):
    """Scores of one class; None where the denominator is zero."""

    recall: float | None
    precision: float | None
    f1: float | None
    count: int


def entropy(probabilities: NDArray[Any]) -> Reals:
    """Returns the Shannon entropy of the last axis [nat]; 0 log 0 is 0.

    >>> float(entropy(np.array([0.0, 1.0])))
    0.0
    """
    p = np.asarray(probabilities, dtype=np.float64)
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    result: Reals = -(p * logs).sum(axis=-1) + 0.0  # no negative zero in a JSON file
    return result


def effective_classes(probabilities: NDArray[Any]) -> float:
    """Returns exp(H(mean p)) of probabilities `[N, K]`: K when classes are used evenly, 1 when only one is used.

    >>> effective_classes(np.array([[1.0, 0.0], [0.0, 1.0]]))
    2.0
    """
    return float(np.exp(entropy(np.asarray(probabilities, dtype=np.float64).mean(axis=0))))


def least_classes(share: float, classes: int) -> float:
    """Returns how many effective classes a model must use.

    `share * classes`, and at least 1 + 0.4 of the share: with two classes a share of 0.5 would be one class and refuse
    nothing.

    >>> least_classes(0.5, 4), least_classes(0.5, 2)
    (2.0, 1.2)
    """
    return max(share * classes, 1.0 + _ABOVE_ONE * share)


def collapsed(effective: float | None, predicted: float, share: float, classes: int) -> bool:
    """Returns whether a model uses too few classes; the guard of the selection and the alarm both call it.

    The first test finds a model whose mean prediction is concentrated, the second one that always predicts the same
    class with modest confidence, whose mean prediction is spread.

    Args:
        effective: `effective_classes` of the probabilities, mean over seeds; None where an output is not finite.
        predicted: `effective_classes` of the hard predictions, mean over seeds.
        share: `select.min_effective_classes`.
        classes: K.

    >>> collapsed(1.8, 1.8, 0.5, 4), collapsed(3.2, 1.01, 0.5, 4), collapsed(3.2, 3.0, 0.5, 4)
    (True, True, False)
    """
    too_few = effective is not None and effective < least_classes(share, classes)
    return too_few or predicted < ONE_CLASS


def pairwise_agreement(predicted: Predictions) -> float:
    """Returns the mean share of equal predictions over all pairs of seeds, `[R, N]`; 1.0 for one seed.

    >>> pairwise_agreement(np.array([[0, 1], [0, 2]]))
    0.5
    """
    seeds = len(predicted)
    pairs = [(predicted[i] == predicted[j]).mean() for i in range(seeds) for j in range(i)]
    return float(np.mean(pairs)) if pairs else 1.0


def accuracy(predicted: Predictions, labels: Predictions) -> float:
    """Returns the share of right predictions.

    >>> accuracy(np.array([0, 1]), np.array([0, 0]))
    0.5
    """
    return float((predicted == labels).mean())


def confusion(predicted: Predictions, labels: Predictions, classes: int) -> Predictions:
    """Returns counts `[K, K]`, rows true, columns predicted.

    >>> confusion(np.array([1, 1]), np.array([0, 1]), 2).tolist()
    [[0, 1], [0, 1]]
    """
    counts: Predictions = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def class_scores(predicted: Predictions, labels: Predictions, classes: int) -> list[ClassScores]:
    """Returns the scores of each class as means over seeds, `predicted` `[R, N]`.

    A seed in which a score is undefined (a class that is never predicted has no precision) is left out of its mean.
    """
    tables = [confusion(row, labels, classes) for row in predicted]
    result: list[ClassScores] = []
    for k in range(classes):
        right = [int(t[k, k]) for t in tables]
        true, shown = [int(t[k].sum()) for t in tables], [int(t[:, k].sum()) for t in tables]
        result.append(
            {
                "recall": _mean_ratio(right, true),
                "precision": _mean_ratio(right, shown),
                "f1": _mean_ratio([2 * r for r in right], [a + b for a, b in zip(true, shown, strict=True)]),
                "count": true[0],
            }
        )
    return result


def group_weights(groups: NDArray[Any], resamples: int, seed: int) -> Reals:
    """Draws bootstrap resamples of whole groups and returns how often each image is in each, `[resamples, N]`.

    Images of one group (patient, scene, lot) are alike: resampling images would make intervals too narrow
    (cluster bootstrap: Field & Welsh, JRSS B 2007). Use the same weights for every method, so that differences
    between methods are paired. Where all images are of one group, single images are drawn, as there is no other way.
    """
    names, codes = np.unique(groups, return_inverse=True)
    if len(names) == 1:
        codes = np.arange(len(groups))
    count = int(codes.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    weights: Reals = drawn[:, codes].astype(np.float64)
    return weights


def resampled_accuracy(right: NDArray[np.bool_], weights: Reals) -> Reals:
    """Returns the accuracy of each row of `right` `[A, N]` in each resample: `[resamples, A]`."""
    result: Reals = weights @ right.T.astype(np.float64) / weights.sum(axis=1, keepdims=True)
    return result


def resampled_balanced_accuracy(right: NDArray[np.bool_], labels: Predictions, weights: Reals) -> Reals:
    """Returns the balanced accuracy of each row of `right` `[A, N]` in each resample: `[resamples, A]`.

    A class that a resample does not hold is left out of that resample's mean.
    """
    total = np.zeros((len(weights), len(right)))
    present = np.zeros((len(weights), 1))
    for k in np.unique(labels):
        here = labels == k
        drawn = weights[:, here].sum(axis=1, keepdims=True)
        hits = weights[:, here] @ right[:, here].T.astype(np.float64)
        total += np.divide(hits, drawn, out=np.zeros_like(hits), where=drawn > 0)
        present += drawn > 0
    result: Reals = total / present
    return result


def interval(values: Reals) -> tuple[float, float]:
    """Returns the 95% percentile interval of resampled values."""
    low, high = np.percentile(values, INTERVAL)
    return float(low), float(high)


def _mean_ratio(over: list[int], under: list[int]) -> float | None:
    defined = [a / b for a, b in zip(over, under, strict=True) if b]
    return float(np.mean(defined)) if defined else None

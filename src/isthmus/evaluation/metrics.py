"""Numbers that judge predictions: with labels (accuracy, recall, intervals) and without (entropy, agreement)."""

from math import exp, lgamma
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

Predictions = NDArray[np.int64]
Reals = NDArray[np.float64]
PERMUTATIONS = 999  # of the labels, in a test
INTERVAL = (2.5, 97.5)  # percentiles of a 95% interval
ONE_CLASS = 1.05  # effective classes of the hard predictions: under it, over 99% of the images are of one class


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


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Returns probabilities `[..., K]` in float64."""
    shifted = np.asarray(logits, dtype=np.float64)
    exponent = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    result: NDArray[np.float64] = exponent / exponent.sum(axis=-1, keepdims=True)
    return result


def effective_classes(probabilities: NDArray[Any]) -> float:
    """Returns exp(H(mean p)) of probabilities `[N, K]`: K when classes are used evenly, 1 when only one is used.

    >>> effective_classes(np.array([[1.0, 0.0], [0.0, 1.0]]))
    2.0
    """
    return float(np.exp(entropy(np.asarray(probabilities, dtype=np.float64).mean(axis=0))))


def collapsed(predicted: Predictions, classes: int, limit: float = ONE_CLASS) -> bool:
    """Says whether nearly all images get one class: under 1.05 effective classes, over 99% of the images.

    Args:
        predicted: int64 `[R, N]`, hard predictions, one row a seed.
        classes: K.
        limit: of effective classes, mean over seeds.
    """
    return float(np.mean([effective_classes(np.eye(classes)[row]) for row in predicted])) < limit


def above_chance(predicted: Predictions, labels: Predictions, significance: float) -> tuple[bool, float]:
    """Says whether balanced accuracy is shown to be better than by chance, whatever the shares of the classes.

    One-sided permutation test (Ojala and Garriga, Permutation tests for studying classifier performance, JMLR 2010,
    test 1). True too where so few images could not show it if all were right.

    Args:
        predicted: int64 `[R, N]`, one row a seed; their mean is tested.
        labels: int64 `[N]`.
        significance: [p-value], above 0.001.

    Returns:
        Whether it is, and the p-value.
    """
    counts, generator = np.bincount(labels), np.random.default_rng(0)
    weight = 1 / np.maximum(counts, 1)

    def recall(of: Predictions) -> float:  # sum over classes, which balanced accuracy is the mean of
        return float(((predicted == of) * weight[of]).sum(axis=1).mean())

    found = recall(labels) - 1e-9
    by_chance = sum(recall(generator.permutation(labels)) >= found for _ in range(PERMUTATIONS))
    p_value = (1 + by_chance) / (1 + PERMUTATIONS)
    orders = lgamma(len(labels) + 1) - sum(lgamma(count + 1) for count in counts)  # log of how many there are
    return p_value < significance or exp(-orders) >= significance, p_value


def pairwise_agreement(predicted: NDArray[np.integer]) -> float:
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


def resampled_units(groups: NDArray[Any]) -> NDArray[np.int64]:
    """Returns the place of the unit that is drawn with each image, `[N]`: its group, or itself where all are of one.

    >>> resampled_units(np.array(["b", "a", "b"])).tolist(), resampled_units(np.array(["a", "a"])).tolist()
    ([1, 0, 1], [0, 1])
    """
    names, codes = np.unique(groups, return_inverse=True)
    return np.arange(len(groups)) if len(names) == 1 else codes


def group_weights(groups: NDArray[Any], resamples: int, seed: int) -> Reals:
    """Draws bootstrap resamples of whole groups and returns how often each image is in each, `[resamples, N]`.

    Images of one group (patient, scene, lot) are alike: resampling images would make intervals too narrow
    (cluster bootstrap: Field & Welsh, JRSS B 2007). Use the same weights for every method, so that differences
    between methods are paired. Where all images are of one group, single images are drawn, as there is no other way.
    """
    codes = resampled_units(groups)
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

"""Accuracy on the target, measured on labelled images that were drawn at random from it.

The images are drawn without replacement from the N images of the target's training split whose labels nothing was
trained on, so that the interval depends
on no model of the shift: it holds because of the draw (design-based inference: Cochran, "Sampling Techniques", 3rd ed.,
1977, chapter 3).
"""

from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from isthmus.data.labels.given import drawing_order
from isthmus.evaluation.trained import UNKNOWN, Samples

METHOD = "95% Wilson score interval, finite population"
LEVEL = 0.95


class Interval(NamedTuple):
    """Bounds of a share."""

    low: float
    high: float


def wilson(right: int, count: int, size: int, level: float = LEVEL) -> Interval:
    """Returns the interval of the share of right answers in a population, from a random part of it.

    Wilson's score interval (Wilson, JASA 22, 1927, equation 5) with the sample's size replaced by
    n (N - 1) / (N - n), which gives the variance of a draw without replacement (Cochran, 1977, equation 3.8), cut to
    what is possible at all: at least k and at most N - n + k of the N are right. Its coverage by exact enumeration is
    in docs/benchmarks.md.

    Args:
        right: k, labelled images that are answered right.
        count: n, labelled images.
        size: N, images that these were drawn from.
        level: share of draws whose interval holds the truth.

    >>> [round(bound, 3) for bound in wilson(17, 20, 2000)], list(wilson(3, 4, 4))
    ([0.641, 0.947], [0.75, 0.75])
    """
    assert 0 <= right <= count <= size and count > 0
    possible = Interval(right / size, (size - count + right) / size)
    if count == size:
        return possible
    n = count * (size - 1) / (size - count)
    share, z = right / count, NormalDist().inv_cdf((1 + level) / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return Interval(max(possible.low, centre - half), min(possible.high, centre + half))


def measure(labels: NDArray[np.int64], predicted: Mapping[str, NDArray[np.int64]]) -> dict[str, Any] | None:
    """Returns the accuracy of each method with its interval; None without an answer.

    The images stand in the order in which they were drawn, and count up to the last one that has an answer. Those
    before it without an answer (someone could not tell, or images came later) may all be wrong or all be right: the
    lower bound takes them as wrong, the upper one as right, so that leaving out hard images proves nothing.

    Args:
        labels: int64 `[N]`, of all images in the order of the draw, `UNKNOWN` where there is no answer.
        predicted: method -> int64 `[N]`.
    """
    answered = np.flatnonzero(labels != UNKNOWN)
    if not len(answered):
        return None
    drawn = int(answered[-1]) + 1
    skipped = drawn - len(answered)
    methods = {}
    for name, rows in predicted.items():
        right = int((rows[answered] == labels[answered]).sum())
        low, high = wilson(right, drawn, len(labels)).low, wilson(right + skipped, drawn, len(labels)).high
        methods[name] = {"right": right, "accuracy": right / len(answered), "low": low, "high": high}
    return {
        "count": len(answered),
        "skipped": skipped,
        "pool": len(labels),
        "interval": METHOD,
        "methods": methods,
    }


def measured_on(
    given: pd.DataFrame,
    learned: pd.DataFrame,
    samples: Samples,
    target: str,
    predicted: Mapping[str, NDArray[np.int64]],
) -> dict[str, Any] | None:
    """Returns `measure` of labels that were given for measuring.

    Args:
        given: `GIVEN_LABELS`, the part for measuring.
        learned: `GIVEN_LABELS`, the part for training: its images are no part of what is measured.
        samples: facts of the images.
        target: the target's name; its training split is what the images were drawn from.
        predicted: method -> int64, in the order of `samples`.
    """
    place = {image_id: row for row, image_id in enumerate(samples.image_id)}
    pool = np.setdiff1d(samples.image_id[samples.rows([target], "train")], learned["image_id"])
    order = np.array([place[image_id] for image_id in drawing_order(pool)], dtype=np.int64)
    label = given.set_index("image_id")["label"].reindex(samples.image_id[order]).fillna(UNKNOWN)
    return measure(label.to_numpy(dtype=np.int64), {name: rows[order] for name, rows in predicted.items()})

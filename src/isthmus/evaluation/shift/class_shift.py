"""How far source and target lie apart within each class: only where labels of both exist, so after the choice."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.evaluation.shift.distances import mmd, sliced_wasserstein, standardise

LEAST = 2  # [image] of a class on each side
MOST = 2000  # likewise: time and memory of the MMD grow with their square


def class_shift(
    source: NDArray[np.float32],
    source_labels: NDArray[np.int64],
    target: NDArray[np.float32],
    target_labels: NDArray[np.int64],
    classes: Sequence[str],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Returns class -> squared MMD, its permutation p-value, sliced Wasserstein and counts; None with too few images.

    Of more than `MOST` images of a class evenly spaced ones are compared: rows are in the order of ids, hashes.

    Features `[N, D]` of both sides are standardised by the source, all classes together, so that the numbers of two
    classes can be compared.
    """
    whole = source.astype(np.float64)
    near, far = standardise(whole, whole), standardise(target.astype(np.float64), whole)
    told: dict[str, dict[str, Any]] = {}
    for k, name in enumerate(classes):
        one, other = _some(near[source_labels == k]), _some(far[target_labels == k])
        counts = [len(one), len(other)]
        if min(counts) < LEAST:
            told[name] = {"mmd2": None, "mmd_p_value": None, "sliced_wasserstein": None, "images": counts}
            continue
        value, p_value = mmd(one, other, seed)
        apart = sliced_wasserstein(one, other, seed)
        told[name] = {"mmd2": value, "mmd_p_value": p_value, "sliced_wasserstein": apart, "images": counts}
    return told


def _some(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return rows[:: max(1, -(-len(rows) // MOST))]

"""What the whole pool of candidates, and the target's own neighbourhoods, say of each target image.

Hu, Luo, Liang & Foo, "Towards Reliable Model Selection for Unsupervised Domain Adaptation: An Empirical Study and A
Certified Baseline" (EnsV), NeurIPS Datasets and Benchmarks 2024, https://openreview.net/forum?id=rI7kbFTSpr: a
candidate near the ensemble of all candidates is never worse than the worst of them, and in practice near the best.

    C_t = 1/M sum_m mean over the kept epochs and seeds of method m of p_t
    S_t <- a C_t + (1 - a) mean of S over the k nearest target images of t,   a = 1/2, five rounds

One vote a method, not one a candidate: a method with many variants would outvote the rest. The second line (Zhou et
al., "Learning with Local and Global Consistency", NIPS 2003, equation 4, few rounds) is ours: neighbours are looked
up in frozen features that no candidate has touched, so no method can have trained for them."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

Reals = NDArray[np.float64]
KEPT_DIMENSIONS = 50  # of the principal components in which neighbours are looked up
NEIGHBOURS = 10
_OWN, _ROUNDS = 0.5, 5


def principal(rows: Reals, dimensions: int) -> Reals:
    """Returns the first principal directions `[D, d]` of rows `[N, D]`, fewer than asked for where the rank is less.

    The sign of a direction is arbitrary; neither distances nor linear classifiers depend on it.
    """
    _, values, directions = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    kept = min(dimensions, int((values > 1e-9 * max(values[0], 1e-30)).sum()))
    result: Reals = directions[: max(1, kept)].T
    return result


def nearest(rows: Reals) -> NDArray[np.int64]:
    """Returns the places `[N, k]` of each row's nearest other rows by their principal components, k at most N - 1."""
    count = min(NEIGHBOURS, len(rows) - 1)
    if count < 1:
        return np.zeros((len(rows), 0), dtype=np.int64)
    space = rows @ principal(rows, KEPT_DIMENSIONS)
    found = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(space)
    places: NDArray[np.int64] = found.kneighbors(return_distance=False).astype(np.int64)
    return places


def vote(methods: Mapping[str, Sequence[Reals]], neighbours: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the class `[T]` that the pool gives each target image.

    Args:
        methods: method -> probabilities `[T, K]`, one array a candidate (mean over its seeds).
        neighbours: int64 `[T, k]`; k may be 0.
    """
    own = np.mean([np.mean(list(candidates), axis=0) for candidates in methods.values()], axis=0)
    if not neighbours.shape[1]:
        return own.argmax(axis=1)
    smooth = own
    for _ in range(_ROUNDS):
        smooth = _OWN * own + (1 - _OWN) * smooth[neighbours].mean(axis=1)
    labels: NDArray[np.int64] = smooth.argmax(axis=1)
    return labels

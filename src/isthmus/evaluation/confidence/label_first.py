"""Which target images to label first, and why: the unsure and the novel ones, spread out. No target label is used."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isthmus.evaluation.metrics import entropy

Reals = NDArray[np.float64]
Places = NDArray[np.int64]

WANTED = 20  # [image] on the list
NEIGHBOURS = 5  # labelled source images that novelty is measured to
_POOL = 5  # times as many candidates as wanted: the spread is taken among these
_HIGH = 0.75  # rank in the pool from which on an image is called unsure or novel
_BLOCK = 1024  # rows whose distances are held at once


@dataclass(frozen=True)
class Query:
    """One image to label.

    Attributes:
        place: row among the target images that were given.
        first: the likeliest class, `second` the next.
        probability: calibrated, mean over seeds, of `first`; `next_probability` of `second`.
        uncertainty: entropy of the probabilities over its maximum, in [0, 1].
        novelty: share of the target images that lie nearer to their labelled neighbours, in [0, 1].
        nearest: rows of the nearest source images, nearest first.
    """

    place: int
    first: int
    second: int
    probability: float
    next_probability: float
    uncertainty: float
    novelty: float
    unsure: bool
    novel: bool
    nearest: list[int]


def label_first(probabilities: Reals, target: Reals, source: Reals, wanted: int = WANTED) -> list[Query]:
    """Returns at most `wanted` images in the order in which to label them.

    Uncertainty is the entropy of the calibrated probabilities (Settles, "Active Learning Literature Survey", 2009,
    section 3.1), novelty the mean distance to the nearest labelled images in frozen features (Sun, Ming, Zhu, Li,
    "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022, with the mean for the k-th). The images
    highest in the mean of both ranks are the candidates; of these the greedy k-centre rule takes the first and then
    always the one farthest from all that are taken (Sener and Savarese, "Active Learning for Convolutional Neural
    Networks: A Core-Set Approach", ICLR 2018, algorithm 1), so that the list does not hold one image many times.

    Args:
        probabilities: float64 `[N, K]`, calibrated, of the target images.
        target: float64 `[N, D]`, their frozen features, standardised by the source.
        source: float64 `[M, D]`, of the labelled images.
        wanted: length of the list.
    """
    classes = probabilities.shape[1]
    unsure = entropy(probabilities) / np.log(classes)
    nearest, distance = neighbours(target, source, NEIGHBOURS)
    novelty = distance.mean(axis=1)
    ranks = [_rank(values) for values in (unsure, novelty)]
    order = np.argsort(-(ranks[0] + ranks[1]), kind="stable")[: _POOL * wanted]
    likely = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    return [
        Query(
            place=int(i),
            first=int(likely[i, 0]),
            second=int(likely[i, 1]),
            probability=float(probabilities[i, likely[i, 0]]),
            next_probability=float(probabilities[i, likely[i, 1]]),
            uncertainty=float(unsure[i]),
            novelty=float(ranks[1][i]),
            unsure=bool(ranks[0][i] >= _HIGH),
            novel=bool(ranks[1][i] >= _HIGH),
            nearest=[int(place) for place in nearest[i]],
        )
        for i in order[spread(target[order], wanted)]
    ]


def reason(query: Query, classes: list[str]) -> str:
    """Returns why an image is on the list, in words."""
    between = (
        f"between {classes[query.first]} ({query.probability:.0%}) and"
        f" {classes[query.second]} ({query.next_probability:.0%})"
    )
    others = "any other target image" if query.novelty == 1 else f"{int(100 * query.novelty)}% of target images"
    far = f"farther from its {NEIGHBOURS} nearest labelled images than {others}"
    if query.unsure and query.novel:
        return f"unsure and novel: {between}; {far}"
    if query.unsure:
        return f"unsure: {between}"
    return f"novel: {far}" if query.novel else f"fairly unsure and fairly novel: {between}; {far}"


def spread(rows: Reals, wanted: int) -> Places:
    """Returns the places of the first row and then always of the row farthest from all taken; copies are left out.

    >>> spread(np.array([[0.0], [0.0], [1.0], [5.0]]), 4).tolist()
    [0, 3, 2]
    """
    if not len(rows):
        return np.zeros(0, np.int64)
    taken = [0]
    gap = np.linalg.norm(rows - rows[0], axis=1)
    while len(taken) < min(wanted, len(rows)) and gap.max() > 0:
        taken.append(int(gap.argmax()))
        gap = np.minimum(gap, np.linalg.norm(rows - rows[taken[-1]], axis=1))
    return np.array(taken, dtype=np.int64)


def neighbours(rows: Reals, among: Reals, count: int) -> tuple[Places, Reals]:
    """Returns places and Euclidean distances of the nearest rows of `among`, `[N, min(count, M)]`, nearest first."""
    # Distances do not change when a row is subtracted, and squares of smaller numbers lose fewer digits.
    rows, among = rows - among.mean(axis=0), among - among.mean(axis=0)
    count, squared = min(count, len(among)), (among**2).sum(axis=1)
    places, distances = np.zeros((len(rows), count), np.int64), np.zeros((len(rows), count))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        table = (block**2).sum(axis=1)[:, None] + squared - 2 * block @ among.T
        near = np.argsort(table, axis=1, kind="stable")[:, :count]
        places[start : start + _BLOCK] = near
        distances[start : start + _BLOCK] = np.sqrt(np.maximum(np.take_along_axis(table, near, axis=1), 0.0))
    return places, distances


def _rank(values: Reals) -> Reals:
    """Returns for each value the share of the others that are smaller, in [0, 1]; equal values have equal ranks."""
    values = values.round(9)  # equal but for the order of a sum
    below = np.searchsorted(np.sort(values), values, side="left")
    ranks: Reals = below / max(len(values) - 1, 1)
    return ranks

"""How far a number would move with other images of the same kind: the jackknife over blocks of groups."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCKS = 10


def blocks(groups: NDArray[Any], seed: int, count: int = BLOCKS) -> NDArray[np.int64]:
    """Returns for each image the number of its block, `[N]`; images of one group (patient, scene, lot) share a block.

    With fewer groups than `count` there are as many blocks as groups; with one group, single images are dealt out.
    """
    _, codes = np.unique(groups.astype(str), return_inverse=True)
    if codes.max(initial=0) == 0:
        codes = np.arange(len(groups))
    members = int(codes.max(initial=0)) + 1
    order = np.random.default_rng(seed).permutation(members)
    result: NDArray[np.int64] = (order % min(count, members))[codes]
    return result


def standard_error(left_out: Sequence[float]) -> float | None:
    """Returns the standard error of a number from its values with one block left out each; None for fewer than two.

    Delete-a-group jackknife, Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 11.5:
    sqrt((B - 1) / B * sum((value_b - mean)^2)).

    >>> standard_error([1.0, 3.0])
    1.0
    """
    count = len(left_out)
    if count < 2:
        return None
    values = np.asarray(left_out, dtype=np.float64)
    return float(np.sqrt((count - 1) / count * ((values - values.mean()) ** 2).sum()))

"""Intervals and paired differences between methods in `truth.json`, the same for every task."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.evaluation import metrics
from isthmus.evaluation.metrics import Reals
from isthmus.evaluation.selection.choice import SOURCE_ONLY

FEW_GROUPS = 6  # that all point one way do so by chance in 2 of 2^6 cases, under 5%; no interval of fewer can say so
Transfer = Literal["better", "worse", "no difference shown"]


def summary(per_seed: Sequence[float], drawn: Reals) -> dict[str, Any]:
    """Returns the mean over seeds of a score, its 95% interval and the score of each seed.

    A score that is undefined (NaN) becomes None, and resamples without it are left out of the interval.

    Args:
        per_seed: the score of each seed.
        drawn: float64 `[resamples]`, the mean over seeds in each resample.

    >>> summary([0.5, 0.7], np.array([0.6, 0.6]))
    {'mean': 0.6, 'low': 0.6, 'high': 0.6, 'per_seed': [0.5, 0.7]}
    """
    defined = drawn[~np.isnan(drawn)]
    low, high = metrics.interval(defined) if len(defined) else (None, None)
    values = [float_or_none(value) for value in per_seed]
    return {"mean": float_or_none(float(np.mean(per_seed))), "low": low, "high": high, "per_seed": values}


def float_or_none(value: float) -> float | None:
    """Returns the value as JSON can hold it: None for NaN."""
    return None if np.isnan(value) else float(value)


def best_method(means: Mapping[str, float], chosen: str) -> str:
    """Returns the method of the highest mean; equal means go to the chosen one: it has no regret against its equal.

    >>> best_method({"coral": 0.5, "mmd": 0.5, "source_only": 0.4}, chosen="mmd")
    'mmd'
    """
    return max(sorted(means), key=lambda method: (means[method], method == chosen, method == SOURCE_ONLY))


def differences(
    method: str, chosen: str, oracle: str, means: Mapping[str, float], drawn: Mapping[str, Reals]
) -> dict[str, Any]:
    """Returns the paired differences of a method to source-only, the chosen and the best one, and its transfer."""
    minus_source_only = difference(method, SOURCE_ONLY, means, drawn)
    return {
        "minus_source_only": minus_source_only,
        "minus_chosen": difference(method, chosen, means, drawn),
        "minus_oracle": difference(method, oracle, means, drawn),
        "transfer": transfer(minus_source_only),
    }


def difference(one: str, other: str, means: Mapping[str, float], drawn: Mapping[str, Reals]) -> dict[str, float]:
    """Returns the mean of one method less that of the other, with the 95% interval over the same resamples.

    Args:
        one: a method.
        other: a method.
        means: method -> its score, mean over seeds.
        drawn: method -> float64 `[resamples]`, that score in each resample; all methods have the same resamples.
    """
    apart = drawn[one] - drawn[other]
    low, high = metrics.interval(apart[~np.isnan(apart)])
    return {"mean": means[one] - means[other], "low": low, "high": high}


def transfer(minus_source_only: Mapping[str, float]) -> Transfer:
    """Returns the verdict on negative transfer, by the paired 95% interval of the difference to source-only.

    The same backbone, seeds and images stand on both sides, so that what differs is the adaptation.

    >>> transfer({"mean": -0.02, "low": -0.05, "high": 0.01})
    'no difference shown'
    """
    if minus_source_only["low"] > 0:
        return "better"
    return "worse" if minus_source_only["high"] < 0 else "no difference shown"


def describe_intervals(groups: NDArray[Any], resamples: int) -> str:
    """Returns what the intervals are, in words.

    >>> describe_intervals(np.array(["a", "b"]), 100)
    '95% bootstrap by group, 100 resamples'
    """
    unit = "group" if len(np.unique(groups)) > 1 else "image (all are of one group)"
    return f"95% bootstrap by {unit}, {resamples} resamples"

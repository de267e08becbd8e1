"""Scores every method by the target's labels, after the choice has been made: the only place that may."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from isthmus.core.accuracy import balanced_accuracy
from isthmus.evaluation import metrics
from isthmus.evaluation.metrics import Predictions, Reals
from isthmus.evaluation.selection.choice import SOURCE_ONLY

Transfer = Literal["better", "worse", "no difference shown"]


def build_truth(
    predicted: Mapping[str, Predictions],
    epochs: Mapping[str, int],
    labels: Predictions,
    groups: NDArray[Any],
    classes: Sequence[str],
    chosen: str,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Returns the body of `truth.json` (docs/contracts.md) over the labelled target test images.

    Every method is resampled with the same draws of groups, so that differences are paired; an interval is of the
    mean over seeds and holds the chance of which images were drawn, not of which seeds.

    Args:
        predicted: method -> int64 `[R, T]`, one row a seed; source-only and the chosen among them.
        epochs: method -> the epoch that `select` takes for it.
        labels: int64 `[T]`.
        groups: `[T]`, what must not be drawn apart.
        classes: names in the order of the labels.
        chosen: the method that `select` chose.
        resamples: number of bootstrap resamples.
        seed: of the resamples.
    """
    weights = metrics.group_weights(groups, resamples, seed)
    drawn = {
        method: metrics.resampled_balanced_accuracy(rows == labels, labels, weights).mean(axis=1)
        for method, rows in predicted.items()
    }
    means = {
        method: float(np.mean([balanced_accuracy(row, labels) for row in rows])) for method, rows in predicted.items()
    }
    # Equal means go to the chosen one: it has no regret against its equal.
    oracle = max(sorted(predicted), key=lambda m: (means[m], m == chosen, m == SOURCE_ONLY))
    unit = "group" if len(np.unique(groups)) > 1 else "image (all are of one group)"
    return {
        "available": True,
        "classes": list(classes),
        "count": len(labels),
        "intervals": f"95% bootstrap by {unit}, {resamples} resamples",
        "methods": {
            method: {
                "epoch": epochs[method],
                "balanced_accuracy": _summary([balanced_accuracy(row, labels) for row in rows], drawn[method]),
                "accuracy": _summary(
                    [metrics.accuracy(row, labels) for row in rows],
                    metrics.resampled_accuracy(rows == labels, weights).mean(axis=1),
                ),
                "per_class": dict(zip(classes, metrics.class_scores(rows, labels, len(classes)), strict=True)),
                "confusion": metrics.confusion(rows[0], labels, len(classes)).tolist(),
                "minus_source_only": _difference(method, SOURCE_ONLY, means, drawn),
                "minus_chosen": _difference(method, chosen, means, drawn),
                "minus_oracle": _difference(method, oracle, means, drawn),
                "transfer": transfer(_difference(method, SOURCE_ONLY, means, drawn)),
            }
            for method, rows in predicted.items()
        },
        "chosen": chosen,
        "oracle": {"method": oracle, "epoch": epochs[oracle]},
        "regret": _difference(oracle, chosen, means, drawn),
    }


def transfer(minus_source_only: Mapping[str, float]) -> Transfer:
    """Returns the verdict on negative transfer, by the paired 95% interval of the difference to source-only.

    The same backbone, seeds and images stand on both sides, so that what differs is the adaptation.

    >>> transfer({"mean": -0.02, "low": -0.05, "high": 0.01})
    'no difference shown'
    """
    if minus_source_only["low"] > 0:
        return "better"
    return "worse" if minus_source_only["high"] < 0 else "no difference shown"


def _summary(per_seed: list[float], drawn: Reals) -> dict[str, Any]:
    low, high = metrics.interval(drawn)
    return {"mean": float(np.mean(per_seed)), "low": low, "high": high, "per_seed": per_seed}


def _difference(one: str, other: str, means: Mapping[str, float], drawn: Mapping[str, Reals]) -> dict[str, float]:
    low, high = metrics.interval(drawn[one] - drawn[other])
    return {"mean": means[one] - means[other], "low": low, "high": high}

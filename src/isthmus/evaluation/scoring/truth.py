"""Scores every method by the target's labels, after the choice has been made: the only place that may."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.accuracy import balanced_accuracy
from isthmus.evaluation import metrics
from isthmus.evaluation.metrics import Predictions
from isthmus.evaluation.scoring.comparison import best_method, describe_intervals, difference, differences, summary


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
    oracle = best_method(means, chosen)
    return {
        "available": True,
        "classes": list(classes),
        "count": len(labels),
        "groups": len(np.unique(groups)),
        "intervals": describe_intervals(groups, resamples),
        "methods": {
            method: {
                "epoch": epochs[method],
                "balanced_accuracy": summary([balanced_accuracy(row, labels) for row in rows], drawn[method]),
                "accuracy": summary(
                    [metrics.accuracy(row, labels) for row in rows],
                    metrics.resampled_accuracy(rows == labels, weights).mean(axis=1),
                ),
                "per_class": dict(zip(classes, metrics.class_scores(rows, labels, len(classes)), strict=True)),
                "confusion": metrics.confusion(rows[0], labels, len(classes)).tolist(),
                **differences(method, chosen, oracle, means, drawn),
            }
            for method, rows in predicted.items()
        },
        "chosen": chosen,
        "oracle": {"method": oracle, "epoch": epochs[oracle]},
        "regret": difference(oracle, chosen, means, drawn),
    }

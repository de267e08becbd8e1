"""Scores the masks of every method by the target's annotations, after the choice has been made."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import DataError
from isthmus.evaluation import metrics
from isthmus.evaluation.metrics import Reals
from isthmus.evaluation.scoring import masks
from isthmus.evaluation.scoring.comparison import (
    best_method,
    describe_intervals,
    difference,
    differences,
    float_or_none,
    summary,
)
from isthmus.evaluation.scoring.masks import Counts


def build_mask_truth(
    counts: Mapping[str, Counts],
    boundaries: Mapping[str, Reals],
    epochs: Mapping[str, int],
    groups: NDArray[Any],
    classes: Sequence[str],
    chosen: str,
    resamples: int,
    seed: int,
    task: str = "segmentation",
) -> dict[str, Any]:
    """Returns the body of `truth.json` over the annotated target test images.

    Methods are compared by `mean_iou`. Every method is resampled with the same draws of groups, so that differences
    are paired; an interval is of the mean over seeds and holds the chance of which images were drawn.

    Args:
        counts: method -> int64 `[R, N, K, K]` of `masks.confusions`, one row a seed; source-only and the chosen
            among them.
        boundaries: method -> float64 `[R, N, K]` of `masks.boundary_scores`, NaN where undefined.
        epochs: method -> the epoch that `select` takes for it.
        groups: `[N]`, what must not be drawn apart.
        classes: names in the order of the masks' values.
        chosen: the method that `select` chose.
        resamples: number of bootstrap resamples.
        seed: of the resamples.
        task: what is written down as the task.

    Raises:
        DataError: no pixel of the truth is scored.
    """
    pixels = int(counts[chosen][0].sum())
    if not pixels:
        raise DataError(
            f"the target's masks hold no scored pixel: each of the {len(groups)} images is 255 all over; "
            "annotate some of it, or set target_labels: none"
        )
    weights = metrics.group_weights(groups, resamples, seed)
    sums = {method: masks.resampled_counts(found, weights) for method, found in counts.items()}
    drawn = {method: masks.mean_iou(found).mean(axis=1) for method, found in sums.items()}
    means = {method: float(masks.mean_iou(found.sum(axis=1)).mean()) for method, found in counts.items()}
    oracle = best_method(means, chosen)
    return {
        "available": True,
        "task": task,
        "metric": "mean_iou",
        "classes": list(classes),
        "count": len(groups),
        "groups": len(np.unique(groups)),
        "pixels": pixels,
        "intervals": describe_intervals(groups, resamples),
        "methods": {
            method: {
                "epoch": epochs[method],
                **_scores(found, boundaries[method], sums[method], weights),
                "per_class": _per_class(found, boundaries[method], classes),
                "confusion": found[0].sum(axis=0).tolist(),
                **differences(method, chosen, oracle, means, drawn),
            }
            for method, found in counts.items()
        },
        "chosen": chosen,
        "oracle": {"method": oracle, "epoch": epochs[oracle]},
        "regret": difference(oracle, chosen, means, drawn),
    }


def _scores(counts: Counts, boundaries: Reals, sums: Reals, weights: Reals) -> dict[str, Any]:
    total, all_images = counts.sum(axis=1), np.ones((1, counts.shape[1]))
    return {
        "mean_iou": summary(masks.mean_iou(total).tolist(), masks.mean_iou(sums).mean(axis=1)),
        "dice": summary(masks.dice(total).tolist(), masks.dice(sums).mean(axis=1)),
        "boundary": summary(
            masks.resampled_boundary(boundaries, all_images)[0].tolist(),
            masks.resampled_boundary(boundaries, weights).mean(axis=1),
        ),
        "pixel_accuracy": summary(masks.pixel_accuracy(total).tolist(), masks.pixel_accuracy(sums).mean(axis=1)),
    }


def _per_class(counts: Counts, boundaries: Reals, classes: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Returns the scores of each class, means over seeds; None for a class that the truth does not hold."""
    total = counts.sum(axis=1)
    pixels = total[0].sum()
    columns = {
        "iou": masks.class_iou(total).mean(axis=0),
        "dice": masks.class_dice(total).mean(axis=0),
        "boundary": masks.class_boundary(boundaries, np.ones((1, counts.shape[1])))[0].mean(axis=0),
        "true_share": total[0].sum(axis=1) / pixels,
        "predicted_share": total.sum(axis=1).mean(axis=0) / pixels,
    }
    return {
        name: {column: float_or_none(values[k]) for column, values in columns.items()} for k, name in enumerate(classes)
    }

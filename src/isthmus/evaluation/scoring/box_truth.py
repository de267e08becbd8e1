"""Scores the boxes of every method by the target's annotations, after the choice has been made."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import DataError
from isthmus.evaluation import metrics
from isthmus.evaluation.metrics import Reals
from isthmus.evaluation.scoring import boxes
from isthmus.evaluation.scoring.boxes import Matches
from isthmus.evaluation.scoring.comparison import (
    best_method,
    describe_intervals,
    difference,
    differences,
    float_or_none,
    summary,
)

_BLOCK = 64  # images scored at once: the work grows with the images times this


def build_box_truth(
    matches: Mapping[str, Sequence[Matches]],
    epochs: Mapping[str, int],
    groups: NDArray[Any],
    classes: Sequence[str],
    chosen: str,
    threshold: float,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Returns the body of `truth.json` over the annotated target test images; methods are compared by AP50.

    Every method is resampled with the same draws of groups, so that differences are paired; an interval is of the mean
    over seeds and holds the chance of which images were drawn.

    Args:
        matches: method -> matches of all images, one a seed; source-only and the chosen among them.
        epochs: method -> the epoch that `select` takes for it.
        groups: `[N]`, what must not be drawn apart.
        classes: names; the first is the background, which has no boxes.
        chosen: the method that `select` chose.
        threshold: [score] from which a box counts in precision and recall of a class.
        resamples: number of bootstrap resamples.
        seed: of the resamples.

    Raises:
        DataError: the truth holds no box.
    """
    count = int(matches[chosen][0].true_boxes.sum())
    if not count:
        raise DataError(
            f"the target's annotations hold no box in {len(groups)} test images; annotate some that show an object, or"
            " set target_labels: none"
        )
    weights = metrics.group_weights(groups, resamples, seed)
    all_images = np.ones((1, len(groups)))
    drawn = {m: np.stack([boxes.average_precisions(s, weights) for s in seeds]) for m, seeds in matches.items()}
    whole = {m: np.stack([boxes.average_precisions(s, all_images)[0] for s in seeds]) for m, seeds in matches.items()}
    resampled = {m: boxes.ap50(found).mean(axis=0) for m, found in drawn.items()}
    means = {m: float(boxes.ap50(found).mean()) for m, found in whole.items()}
    oracle = best_method(means, chosen)
    return {
        "available": True,
        "task": "detection",
        "metric": "ap50",
        "classes": list(classes),
        "count": len(groups),
        "groups": len(np.unique(groups)),
        "boxes": count,
        "threshold": threshold,
        "intervals": describe_intervals(groups, resamples),
        "methods": {
            method: {
                "epoch": epochs[method],
                "ap50": summary(boxes.ap50(whole[method]).tolist(), resampled[method]),
                "ap": summary(boxes.ap(whole[method]).tolist(), boxes.ap(drawn[method]).mean(axis=0)),
                "per_class": _per_class(whole[method], matches[method], classes, threshold),
                **differences(method, chosen, oracle, means, resampled),
            }
            for method in matches
        },
        "chosen": chosen,
        "oracle": {"method": oracle, "epoch": epochs[oracle]},
        "regret": difference(oracle, chosen, means, resampled),
    }


def _per_class(
    precisions: Reals, matches: Sequence[Matches], classes: Sequence[str], threshold: float
) -> dict[str, dict[str, float | None]]:
    """Returns the scores of each class but the background, means over seeds; None where the truth has none of it."""
    found = {}
    ap50, ap = boxes.class_ap50(precisions).mean(axis=0), boxes.class_ap(precisions).mean(axis=0)
    for k, name in enumerate(classes[1:], 1):
        true = float(matches[0].true_boxes[:, k].sum())
        counts = [_right_and_answered(one, k, threshold) for one in matches]
        right, answered = (float(np.mean(column)) for column in zip(*counts, strict=True))
        found[name] = {
            "ap50": float_or_none(ap50[k]),
            "ap": float_or_none(ap[k]),
            "recall": right / true if true else None,
            "precision": right / answered if answered else None,
            "boxes": true,
            "answered": answered,
        }
    return found


def _right_and_answered(matches: Matches, k: int, threshold: float) -> tuple[int, int]:
    """Returns how many boxes of a class reach the threshold, and how many of these are right at an IoU of .5."""
    here = (matches.classes == k) & (matches.scores >= threshold)
    return int(matches.right[0, here].sum()), int(here.sum())


def best_threshold(matches: Matches) -> float:
    """Returns the score from which boxes should count: where the harmonic mean of precision and recall is highest.

    Of all classes together, at an IoU of .5; .5 where no box is right.
    """
    order = np.argsort(-matches.scores, kind="stable")
    right = matches.right[0, order].cumsum()
    if not len(order) or not right[-1]:
        return 0.5
    f1 = 2 * right / (np.arange(1, len(order) + 1) + matches.true_boxes.sum())
    return float(matches.scores[order[f1.argmax()]])


def image_scores(matches: Matches, threshold: float) -> Reals:
    """Returns the AP50 of each image by itself, `[N]`.

    Of an image without true boxes it is 1 where no box reaches the threshold, else 0.

    Args:
        matches: of all images.
        threshold: [score].
    """
    count = len(matches.true_boxes)
    blocks = [_scores_of_block(matches, first) for first in range(0, count, _BLOCK)]
    scores = np.concatenate([np.empty(0), *blocks])
    answered = np.bincount(matches.images[matches.scores >= threshold], minlength=count)
    return np.where(matches.true_boxes.any(axis=1), scores, (answered == 0).astype(np.float64))


def _scores_of_block(matches: Matches, first: int) -> Reals:
    """Returns the AP50 of each of at most `_BLOCK` images from the first on, with their detections alone."""
    true_boxes = matches.true_boxes[first : first + _BLOCK]
    mine = slice(*np.searchsorted(matches.images, [first, first + _BLOCK]))
    block = Matches(
        matches.images[mine] - first, matches.classes[mine], matches.scores[mine], matches.right[:, mine], true_boxes
    )
    return boxes.ap50(boxes.average_precisions(block, np.eye(len(true_boxes))))

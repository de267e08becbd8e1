"""What is plainly wrong with a chosen model, or makes it needless, told without target labels."""

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np

from isthmus.core.accuracy import balanced_accuracy
from isthmus.evaluation.metrics import Predictions, effective_classes
from isthmus.evaluation.shift.distances import shift_is_found

ABOVE_CHANCE = 0.1  # [share] of balanced accuracy that a model which has learned its own source at all exceeds
ONE_CLASS = 0.99  # [share] of target images under one answer


class Alarms(TypedDict):
    """Each True is a verdict of its own; `shift_found` is the good case, the others are not."""

    source_learned: bool
    target_collapsed: bool
    shift_found: bool


def raise_alarms(
    source_predicted: Predictions,
    source_labels: Predictions,
    target_predicted: Predictions,
    guards: Mapping[str, float],
    classes: int,
    shift: Mapping[str, Any],
) -> Alarms:
    """Returns what is wrong.

    Args:
        source_predicted: int64 `[R, S]`, source images that were not trained on, one row a seed.
        source_labels: int64 `[S]`.
        target_predicted: int64 `[R, T]`.
        guards: of `choice.json`; the fallback to source-only is not held by them, so they are asked once more here.
        classes: K.
        shift: the content of `shift.json`.
    """
    learned = float(np.mean([balanced_accuracy(row, source_labels) for row in source_predicted]))
    used = float(np.mean([effective_classes(np.eye(classes)[row]) for row in target_predicted]))
    most = float(np.mean([np.bincount(row, minlength=classes).max() / len(row) for row in target_predicted]))
    return {
        "source_learned": learned >= min(1.0, 1 / classes + ABOVE_CHANCE),
        "target_collapsed": most > ONE_CLASS or used < guards["min_effective_classes"] * classes,
        "shift_found": shift_is_found(shift["pairs"]["pooled"], shift["control"]),
    }

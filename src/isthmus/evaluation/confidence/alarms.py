"""What is wrong with a chosen model, or makes it unnecessary, found without target labels."""

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from isthmus.core.accuracy import balanced_accuracy
from isthmus.evaluation.metrics import Predictions, collapsed, effective_classes
from isthmus.evaluation.shift.distances import shift_is_found
from isthmus.evaluation.validators import softmax

ABOVE_CHANCE = 0.1  # [share] of balanced accuracy that a model which has learned its own source at all exceeds


class Alarms(TypedDict):
    """Each is reported on its own; True is good for `source_learned` and `shift_found`, bad for `target_collapsed`."""

    source_learned: bool
    target_collapsed: bool
    shift_found: bool


def raise_alarms(
    source_predicted: Predictions,
    source_labels: Predictions,
    target_logits: NDArray[Any],
    guards: Mapping[str, float],
    shift: Mapping[str, Any],
) -> Alarms:
    """Returns what is wrong.

    Args:
        source_predicted: int64 `[R, S]`, source images that were not trained on, one row a seed.
        source_labels: int64 `[S]`.
        target_logits: `[R, T, K]`, of the target's training images, which the guards of the selection use too: a model
            that passed its guard against collapse raises no alarm. The fallback, source-only, passes no guard.
        guards: of `choice.json`.
        shift: the content of `shift.json`.
    """
    classes = target_logits.shape[2]
    learned = float(np.mean([balanced_accuracy(row, source_labels) for row in source_predicted]))
    used = float(np.mean([effective_classes(softmax(row)) for row in target_logits]))
    hard = float(np.mean([effective_classes(np.eye(classes)[row.argmax(axis=1)]) for row in target_logits]))
    return {
        "source_learned": learned >= min(1.0, 1 / classes + ABOVE_CHANCE),
        "target_collapsed": collapsed(used, hard, guards["min_effective_classes"], classes),
        "shift_found": shift_is_found(shift["pairs"]["pooled"], shift["control"]),
    }

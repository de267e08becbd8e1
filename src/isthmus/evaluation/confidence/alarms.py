"""What is wrong with a chosen model, or makes it unnecessary, found without target labels."""

from collections.abc import Mapping
from typing import Any, TypedDict

from isthmus.evaluation.guards import TaskGuards
from isthmus.evaluation.metrics import Predictions
from isthmus.evaluation.shift.distances import shift_is_found


class Alarms(TypedDict):
    """Each is reported on its own; True is good for `source_learned` and `shift_found`, bad for `target_collapsed`."""

    source_learned: bool
    target_collapsed: bool
    shift_found: bool


def raise_alarms(
    guards: TaskGuards,
    source_predicted: Predictions,
    source_labels: Predictions,
    target_predicted: Predictions,
    classes: int,
    significance: float,
    shift: Mapping[str, Any],
) -> Alarms:
    """Returns what is wrong.

    Args:
        guards: of the task; they never refuse source-only, so the fallback is tested here.
        source_predicted: int64 `[R, S]`, source images that were not trained on, one row a seed.
        source_labels: int64 `[S]`.
        target_predicted: int64 `[R, T]`, of the target's training images, which the guards of the selection use too.
        classes: K.
        significance: [p-value] of the guards.
        shift: the content of `shift.json`.
    """
    return {
        "source_learned": guards.learned(source_predicted, source_labels, significance)[0],
        "target_collapsed": guards.collapsed(target_predicted, source_labels, classes),
        "shift_found": shift_is_found(shift["pairs"]["pooled"], shift["control"]),
    }

"""What is wrong with a chosen model, or makes it unnecessary, found without target labels."""

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np

from isthmus.evaluation.metrics import Predictions, above_guessing, accuracy, collapsed
from isthmus.evaluation.shift.distances import shift_is_found


class Alarms(TypedDict):
    """Each is reported on its own; True is good for `source_learned` and `shift_found`, bad for `target_collapsed`."""

    source_learned: bool
    target_collapsed: bool
    shift_found: bool


def raise_alarms(
    source_predicted: Predictions,
    source_labels: Predictions,
    target_predicted: Predictions,
    classes: int,
    guards: Mapping[str, float],
    shift: Mapping[str, Any],
) -> Alarms:
    """Returns what is wrong.

    Args:
        source_predicted: int64 `[R, S]`, source images that were not trained on, one row a seed.
        source_labels: int64 `[S]`.
        target_predicted: int64 `[R, T]`, of the target's training images, which the guards of the selection use too.
        classes: K.
        guards: of `choice.json`; they never refuse source-only, so the fallback is tested here.
        shift: the content of `shift.json`.
    """
    right = float(np.mean([accuracy(row, source_labels) for row in source_predicted]))
    return {
        "source_learned": above_guessing(right, source_labels, guards["significance"])[0],
        "target_collapsed": collapsed(target_predicted, classes),
        "shift_found": shift_is_found(shift["pairs"]["pooled"], shift["control"]),
    }

"""What is known of a chosen method whose rows are cells, without target labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import DataError
from isthmus.data.scenario import Scenario
from isthmus.evaluation.confidence.alarms import Alarms, raise_alarms
from isthmus.evaluation.guards import TaskGuards
from isthmus.evaluation.trained import UNKNOWN, Samples, Trained

_MOST_CELLS = 20_000  # that are looked at


def alarms(
    guards: TaskGuards,
    chosen: Trained,
    made: dict[str, Any],
    cells: Samples,
    scenario: Scenario,
    shift: dict[str, Any],
) -> Alarms:
    """Returns what is plainly wrong with a chosen method.

    Args:
        guards: of the task.
        chosen: the method.
        made: `choice.json`.
        cells: facts of the cells, of `guards`.
        scenario: whose domains these are.
        shift: `shift.json`.
    """
    predicted = chosen.all_logits(made["chosen"]["epoch"]).argmax(axis=2)
    val, target = some(known(cells, scenario.source, "val")), some(cells.rows([scenario.target], "train"))
    return raise_alarms(
        guards, predicted[:, val], cells.label[val], predicted[:, target], len(scenario.classes),
        made["guards"]["significance"], shift,
    )  # fmt: skip


def known(cells: Samples, domains: Sequence[str], split: str) -> NDArray[np.int64]:
    """Returns the cells of a split whose class is known.

    Raises:
        DataError: there is none.
    """
    rows = cells.rows(domains, split)
    rows = rows[cells.label[rows] != UNKNOWN]
    if not len(rows):
        raise DataError(
            f"manifest: no prepared image in split '{split}' of {', '.join(domains)} has a scored pixel, so the model's"
            " answers cannot be compared with anything there. Add images with scored pixels or change the split column"
            " of the table, then run 'dvc repro'"
        )
    return rows


def some(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns evenly spaced ones of many cells."""
    return rows[:: -(-len(rows) // _MOST_CELLS)]

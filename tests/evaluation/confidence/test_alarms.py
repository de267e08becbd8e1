"""The alarms: source not learned, collapse on the target, shift found."""

import numpy as np
import pytest

from isthmus.evaluation.confidence.alarms import raise_alarms
from isthmus.evaluation.guards.classification import Guards

SHIFTED = {"pairs": {"pooled": {"mmd_p_value": 0.005, "proxy_a_distance": 1.5}}, "control": {"proxy_a_distance": 0.1}}
ALIKE = {"pairs": {"pooled": {"mmd_p_value": 0.7, "proxy_a_distance": 0.1}}, "control": {"proxy_a_distance": 0.1}}


@pytest.mark.parametrize(("others", "expected"), [(0, True), (5, True), (20, False), (300, False)])
def test_a_model_has_collapsed_where_over_99_percent_of_the_images_get_one_class(others: int, expected: bool) -> None:
    labels, target = np.arange(40) % 4, np.zeros((1, 1000), dtype=np.int64)
    target[0, :others] = 1

    found = raise_alarms(Guards(), labels[None], labels, target, 4, 0.05, SHIFTED)

    assert found == {"source_learned": True, "target_collapsed": expected, "shift_found": True}


def test_a_model_that_guesses_on_its_own_source_has_not_learned_it() -> None:
    labels = np.arange(400) % 4
    guesses = np.random.default_rng(0).integers(0, 4, (3, 400))

    found = raise_alarms(Guards(), guesses, labels, guesses, 4, 0.05, ALIKE)

    assert found == {"source_learned": False, "target_collapsed": False, "shift_found": False}

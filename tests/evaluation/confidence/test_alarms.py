import numpy as np
import pytest

from isthmus.evaluation.confidence.alarms import raise_alarms
from isthmus.evaluation.metrics import ONE_CLASS, collapsed, effective_classes, least_classes

GUARDS = {"min_effective_classes": 0.5}
SHIFTED = {"pairs": {"pooled": {"proxy_a_distance": 1.9, "mmd_p_value": 0.001}}, "control": {"proxy_a_distance": 0.1}}
ALIKE = {"pairs": {"pooled": {"proxy_a_distance": 0.1, "mmd_p_value": 0.6}}, "control": {"proxy_a_distance": 0.1}}


def logits(shares: list[float], confidence: float, images: int = 1000) -> np.ndarray:
    """One seed, `[1, images, K]`: predictions by these shares, each with one confidence, the rest spread."""
    classes = len(shares)
    hard = np.repeat(np.arange(classes), np.round(np.array(shares) * images).astype(int))
    other = (1 - confidence) / (classes - 1)
    return np.log(np.where(np.eye(classes)[hard] == 1, confidence, other))[None]


@pytest.mark.parametrize(
    ("shares", "confidence", "expected"),
    [
        ([0.25, 0.25, 0.25, 0.25], 0.9, False),
        ([1.0, 0.0, 0.0, 0.0], 0.99, True),  # one class, sure
        ([1.0, 0.0, 0.0, 0.0], 0.4, True),  # one class, unsure: the mean prediction is spread
        ([0.94, 0.06, 0.0, 0.0], 0.4, False),  # two classes, unsure
        ([0.5, 0.5, 0.0, 0.0], 0.99, False),
        ([0.85, 0.15, 0.0, 0.0], 0.99, True),
        ([0.98, 0.02], 0.99, True),  # two classes: one would pass a limit of 0.5 * 2
        ([0.9, 0.1], 0.99, False),
    ],
)
def test_a_model_raises_the_alarm_where_the_guard_would_have_refused_it(
    shares: list[float], confidence: float, expected: bool
) -> None:
    values, classes = logits(shares, confidence), len(shares)
    probabilities = np.exp(values[0])
    used = effective_classes(probabilities)
    hard = effective_classes(np.eye(classes)[probabilities.argmax(1)])
    labels = np.arange(classes)

    found = raise_alarms(labels[None], labels, values, GUARDS, SHIFTED)

    assert found == {"source_learned": True, "target_collapsed": expected, "shift_found": True}
    assert collapsed(used, hard, 0.5, classes) is expected
    assert (used < least_classes(0.5, classes) or hard < ONE_CLASS) is expected


def test_a_model_that_does_not_know_its_source_is_reported() -> None:
    labels, guesses = np.arange(40) % 4, np.zeros((1, 40), dtype=np.int64)

    found = raise_alarms(guesses, labels, logits([0.25] * 4, 0.9), GUARDS, ALIKE)

    assert found == {"source_learned": False, "target_collapsed": False, "shift_found": False}

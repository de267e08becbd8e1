"""Calibration against slow versions, known answers and draws from known distributions."""

import numpy as np
import pytest

from isthmus.evaluation import calibration, metrics
from isthmus.evaluation.metrics import softmax


def calibrated_problem(count: int, seed: int = 0, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the true distribution of the labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, classes))
    return logits, (softmax(logits).cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)


@pytest.mark.parametrize("wrong", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_a_known_scale(wrong: float) -> None:
    logits, labels = calibrated_problem(6000)

    assert calibration.fit_temperature(logits * wrong, labels) == pytest.approx(wrong, rel=0.08)


def test_the_weighted_temperature_is_that_of_the_images_that_count() -> None:
    logits, labels = calibrated_problem(6000)
    half = np.arange(6000) < 3000
    logits = np.where(half[:, None], logits * 3, logits)

    assert calibration.fit_temperature(logits, labels, half.astype(float)) == pytest.approx(3.0, rel=0.1)
    assert calibration.fit_temperature(logits, labels, (~half).astype(float)) == pytest.approx(1.0, rel=0.1)


def test_a_model_that_is_never_wrong_on_few_images_is_not_called_certain() -> None:
    logits = np.eye(3)[np.arange(60) % 3] * 4.0
    labels = np.arange(60) % 3

    sure = softmax(logits / calibration.fit_temperature(logits, labels)).max(axis=1)

    assert sure.mean() == pytest.approx(1 - 1 / 62, abs=2e-3)


def test_bins_hold_equally_many_and_equal_values_share_one() -> None:
    confidence = np.random.default_rng(0).random(1000)

    assert np.bincount(calibration.bins_of(confidence)).tolist() == [100] * 10
    assert len(set(calibration.bins_of(np.full(7, 0.5)).tolist())) == 1


def test_the_calibration_error_equals_a_slow_loop() -> None:
    rng = np.random.default_rng(1)
    confidence, right = rng.random(83), rng.random(83) < 0.6
    order = np.argsort(confidence)
    place = np.empty(83, dtype=int)
    place[order] = np.arange(83) * 10 // 83
    expected = sum(
        (place == b).mean() * abs(right[place == b].mean() - confidence[place == b].mean()) for b in range(10)
    )

    found = calibration.calibration_error(confidence, right, metrics.group_weights(np.arange(83), 100, 0), 0)

    assert found["ece"] == pytest.approx(expected)
    assert 0 <= found["low"] <= found["ece"] <= found["high"] <= 1
    bins = calibration.reliability(confidence, right)
    assert sum(b["count"] for b in bins) == 83
    assert sum(b["count"] * abs(b["accuracy"] - b["confidence"]) for b in bins) / 83 == pytest.approx(expected)


def test_a_calibrated_model_shows_no_more_error_than_chance_and_an_overconfident_one_does() -> None:
    logits, labels = calibrated_problem(800)
    drawn = metrics.group_weights(np.arange(800), 200, 0)
    found = {}
    for name, scale in (("calibrated", 1.0), ("overconfident", 4.0)):
        probabilities = softmax(logits * scale)
        confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
        found[name] = calibration.calibration_error(confidence, right, drawn, 0)

    assert found["calibrated"]["ece"] < 1.5 * found["calibrated"]["by_chance"]
    assert found["calibrated"]["low"] == 0.0
    assert found["overconfident"]["low"] > 3 * found["overconfident"]["by_chance"]


def test_domain_weights_turn_the_source_mean_into_the_targets() -> None:
    rng = np.random.default_rng(2)
    one, two = rng.normal(0, 1, (2000, 3)), rng.normal([0.7, 0, 0], 1, (2000, 3))

    found = calibration.domain_weights(one[:1000], two[:1000], one[1000:], two[1000:])

    assert found.source.mean() == pytest.approx(1.0)
    assert np.average(one[1000:, 0], weights=found.source) == pytest.approx(0.7, abs=0.12)
    assert 0.6 < found.separability < 0.75  # Phi(0.7 / sqrt 2) = 0.69
    assert found.source.max() <= 11


def test_domains_alike_have_even_weights_and_domains_apart_have_few_effective_images() -> None:
    rng = np.random.default_rng(3)
    fit, rows = rng.normal(0, 1, (200, 8)), rng.normal(0, 1, (200, 8))

    alike = calibration.domain_weights(fit, rng.normal(0, 1, (200, 8)), rows, rng.normal(0, 1, (200, 8)))
    apart = calibration.domain_weights(fit, rng.normal(2, 1, (200, 8)), rows, rng.normal(2, 1, (200, 8)))

    assert calibration.effective_count(alike.source) > 120
    assert calibration.effective_count(apart.source) < 40
    assert alike.separability < 0.6 < 0.99 < apart.separability


def test_a_constant_embedding_gives_even_weights() -> None:
    still = np.zeros((20, 4))

    found = calibration.domain_weights(still, still, still, still)

    assert found.source.tolist() == [1.0] * 20
    assert found.separability == 0.5

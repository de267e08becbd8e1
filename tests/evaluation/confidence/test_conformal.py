"""Conformal sets: hand-worked quantiles, coverage on draws whose truth is known, and under a known shift."""

import math

import numpy as np
import pytest

from isthmus.evaluation.confidence import conformal
from isthmus.evaluation.metrics import softmax


def drawn(rng: np.random.Generator, count: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, probabilities and labels of a model that is far too sure where the input is large."""
    x = rng.normal(shift, 1, count)
    true = softmax(np.stack([x, -x, np.zeros(count)], axis=1) * np.where(x > 0.5, 0.5, 2)[:, None])
    labels = (true.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1)
    seen = softmax(np.stack([x, -x, np.zeros(count)], axis=1) * np.where(x > 0.5, 6, 2)[:, None])
    return x, seen, labels


@pytest.mark.parametrize("count", [9, 10, 39, 66])
def test_the_plain_threshold_is_the_order_statistic_of_the_textbook(count: int) -> None:
    values = np.random.default_rng(count).random(count)

    found = conformal.thresholds(values, np.ones(count), np.ones(1), 0.9)[0]

    place = math.ceil((count + 1) * 0.9)
    assert found == (np.sort(values)[place - 1] if place <= count else np.inf)


def test_an_own_weight_that_outweighs_the_calibration_images_lets_every_class_in() -> None:
    calibration = np.array([[0.2, 0.8]] * 20)

    sets = conformal.prediction_sets(
        calibration, np.zeros(20, dtype=int), np.array([[0.5, 0.9]] * 2), 0.9, np.ones(20), np.array([0.0, 50.0])
    )

    assert sets.tolist() == [[False, False], [True, True]]


@pytest.mark.parametrize("kind", ["lac", "aps"])
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_coverage_on_new_images_of_the_source_is_within_three_points_of_nominal(
    kind: conformal.Score, coverage: float
) -> None:
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        _, one, labels = drawn(rng, 200)
        _, other, truth = drawn(rng, 400)
        sets = conformal.prediction_sets(
            conformal.scores(one, kind, seed), labels, conformal.scores(other, kind, seed + 1000), coverage
        )
        found.append(conformal.covered(sets, truth).mean())

    assert abs(np.mean(found) - coverage) < 0.03
    assert np.mean(found) > coverage - 0.01


def test_weights_bring_back_the_coverage_that_a_covariate_shift_takes() -> None:
    plain, weighted = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x, one, labels = drawn(rng, 1500)
        moved, other, truth = drawn(rng, 500, shift=1.0)
        ratio, own = np.exp(x - 0.5), np.exp(moved - 0.5)  # N(1, 1) against N(0, 1)
        before, after = 1 - one, 1 - other
        plain.append(conformal.covered(conformal.prediction_sets(before, labels, after, 0.9), truth).mean())
        sets = conformal.prediction_sets(before, labels, after, 0.9, ratio, own)
        weighted.append(conformal.covered(sets, truth).mean())

    assert np.mean(plain) < 0.88
    assert abs(np.mean(weighted) - 0.9) < 0.02


def test_adaptive_scores_equal_a_slow_loop() -> None:
    probabilities = softmax(np.random.default_rng(4).normal(0, 1, (30, 5)))
    part = np.random.default_rng(7).random((30, 1))[:, 0]

    found = conformal.scores(probabilities, "aps", 7)

    for row, random, score in zip(probabilities, part, found, strict=True):
        for k in range(5):
            assert score[k] == pytest.approx(row[row > row[k]].sum() + random * row[k])


def test_sizes_count_answers_and_empty_sets() -> None:
    sets = np.array([[True, False], [True, True], [False, False], [False, True]])

    assert conformal.set_sizes(sets) == {"mean_size": 1.0, "answered": 0.5, "empty": 0.25}
    assert conformal.covered(sets, np.array([0, 0, 0, 0])).tolist() == [True, True, False, False]

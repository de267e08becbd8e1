"""Validators against numbers worked out by hand."""

import numpy as np
import pytest

from isthmus.evaluation.validators import Trial
from isthmus.evaluation.validators.entropy import Entropy
from isthmus.evaluation.validators.information_maximisation import InformationMaximisation
from isthmus.evaluation.validators.nearest_source import NearestSource
from isthmus.evaluation.validators.seed_agreement import SeedAgreement

LOG2 = np.log(2)


def on_target(*seeds: list[list[float]]) -> Trial:
    logits = np.log(np.maximum(np.array(seeds), 1e-30)).astype(np.float32)
    rows = len(seeds[0])
    return Trial(logits[0], np.zeros(rows, int), np.eye(rows, 2), logits[0], np.eye(rows, 2), logits)


def in_space(source: list[list[float]], right: list[bool], target: list[list[float]]) -> Trial:
    logits = np.eye(2, dtype=np.float32)[[0 if r else 1 for r in right]]
    features = np.array(source, np.float32), np.array(target, np.float32)
    shown = np.zeros((len(target), 2), np.float32)
    return Trial(logits, np.zeros(len(source), int), features[0], shown, features[1], shown[None])


def test_entropy_is_minus_the_mean_of_log_two_and_zero() -> None:
    score = Entropy().score(on_target([[0.5, 0.5], [1.0, 0.0]]))

    assert score == pytest.approx(-LOG2 / 2, abs=1e-6)


def test_entropy_of_certain_predictions_is_zero() -> None:
    assert Entropy().score(on_target([[1.0, 0.0], [1.0, 0.0]])) == pytest.approx(0.0, abs=1e-9)


def test_information_is_log_k_for_certain_and_even_predictions() -> None:
    assert InformationMaximisation().score(on_target([[1.0, 0.0], [0.0, 1.0]])) == pytest.approx(LOG2, abs=1e-6)


def test_information_of_a_collapsed_model_is_zero_however_confident_it_is() -> None:
    assert InformationMaximisation().score(on_target([[1.0, 0.0], [1.0, 0.0]])) == pytest.approx(0.0, abs=1e-9)


def test_information_of_unequal_predictions_is_the_difference_of_entropies() -> None:
    mean = np.array([0.625, 0.375])  # of (3/4, 1/4) and (1/2, 1/2)
    expected = -(mean * np.log(mean)).sum() - (-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) + LOG2) / 2

    assert InformationMaximisation().score(on_target([[0.75, 0.25], [0.5, 0.5]])) == pytest.approx(expected, abs=1e-6)


def test_agreement_is_of_this_seed_with_the_others() -> None:
    one, other, third = [[1.0, 0.0]] * 4, [[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 2, [[0.0, 1.0]] * 4

    score = SeedAgreement().score(on_target(one, other, third))

    assert score == pytest.approx((0.5 + 0.0) / 2)


def test_agreement_of_a_single_seed_says_nothing() -> None:
    assert SeedAgreement().score(on_target([[1.0, 0.0]])) == 1.0


def test_nearest_source_counts_the_source_samples_that_the_target_is_near() -> None:
    # Source spacing is 1. The targets lie within it: full weight. Two are nearest to the right one, one to the wrong.
    given = in_space([[0, 0], [0, 1]], [True, False], [[0, 0.2], [0.3, 0], [0, 0.9]])

    assert NearestSource().score(given) == pytest.approx(2 / 3)


def test_nearest_source_gives_a_far_target_the_share_of_the_source_spacing() -> None:
    given = in_space([[0, 0], [0, 1]], [True, True], [[4, 0], [0, 1]])  # 4 spacings away, and on the source

    assert NearestSource().score(given) == pytest.approx((1 / 4 + 1) / 2)


def test_nearest_source_does_not_change_with_the_scale_or_place_of_the_features() -> None:
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(30, 5)), rng.normal(1, 1, size=(40, 5))
    right = list(rng.random(30) < 0.7)

    scores = [NearestSource().score(in_space(a * source + b, right, a * target + b)) for a, b in [(1, 0), (50, 7)]]

    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert 0 < scores[0] < 1


def test_nearest_source_of_constant_features_is_the_first_sample_with_full_weight() -> None:
    assert NearestSource().score(in_space([[0.1, 0.3]] * 3, [True, False, False], [[0.1, 0.3]] * 4)) == 1.0


def test_nearest_source_agrees_with_an_obvious_double_loop_over_blocks() -> None:
    rng = np.random.default_rng(2)
    source, target = rng.normal(size=(25, 3)), rng.normal(0.5, 2, size=(2100, 3))  # more than one block
    right = list(rng.random(25) < 0.5)
    given = in_space(source, right, target)
    a, b = given.source_features.astype(float), given.target_features.astype(float)
    spacing = np.median([min(np.linalg.norm(x - y) for j, y in enumerate(a) if j != i) for i, x in enumerate(a)])
    total = 0.0
    for row in b:
        distances = [np.linalg.norm(row - y) for y in a]
        total += right[int(np.argmin(distances))] * min(1.0, spacing / min(distances))

    assert NearestSource().score(given) == pytest.approx(total / len(b), abs=1e-6)

"""LogME, H-score and LEEP against slow, obvious versions and hand-worked numbers; the jackknife's standard error."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf

from isthmus.evaluation.jackknife import blocks, standard_error
from isthmus.evaluation.scoring import transferability as measures
from isthmus.evaluation.shift.class_shift import class_shift
from isthmus.evaluation.shift.distances import mmd, mmd_error


def labelled(count: int = 90, width: int = 5, apart: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    centres = np.random.default_rng(1).normal(size=(3, width))
    return rng.normal(size=(count, width)) + apart * centres[labels], labels


def slow_log_me(features: np.ndarray, labels: np.ndarray) -> float:
    """The evidence is the density of the labels under N(0, 1/beta I + 1/alpha F F'): maximised by a general search."""
    told = []
    for k in np.unique(labels):
        column = (labels == k).astype(float)

        def cost(logs: np.ndarray, column: np.ndarray = column) -> float:
            covariance = np.exp(-logs[1]) * np.eye(len(column)) + np.exp(-logs[0]) * features @ features.T
            return -float(multivariate_normal.logpdf(column, np.zeros(len(column)), covariance))

        found = minimize(cost, [1.0, 1.0], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9})
        told.append(-found.fun / len(column))
    return float(np.mean(told))


def test_log_me_is_the_maximum_of_the_evidence_as_a_general_search_finds_it() -> None:
    features, labels = labelled()

    assert measures.log_me(features, labels) == pytest.approx(slow_log_me(features, labels), abs=1e-6)


def test_log_me_is_finite_with_more_columns_than_images_and_with_constant_columns() -> None:
    features, labels = labelled(count=20, width=60)

    assert np.isfinite(measures.log_me(features, labels))
    assert np.isfinite(measures.log_me(np.zeros((20, 3)), labels))


def test_h_score_equals_its_definition_by_covariances() -> None:
    features, labels = labelled()
    means = np.stack([features[labels == k].mean(axis=0) for k in labels])
    expected = np.trace(np.linalg.inv(np.cov(features.T, bias=True)) @ np.cov(means.T, bias=True))

    assert measures.h_score(features, labels) == pytest.approx(expected, rel=1e-9)


def test_the_shrunk_h_score_uses_the_covariance_of_ledoit_and_wolf() -> None:
    features, labels = labelled()
    means = np.stack([features[labels == k].mean(axis=0) for k in labels])
    covariance, shrinkage = ledoit_wolf(features)
    expected = np.trace(np.linalg.inv(covariance) @ ((1 - shrinkage) * np.cov(means.T, bias=True)))

    assert 0 < shrinkage < 1
    assert measures.shrunk_h_score(features, labels) == pytest.approx(expected, rel=1e-9)


def test_only_the_shrunk_h_score_sees_through_as_many_columns_as_images() -> None:
    features, labels = labelled(count=40, width=60, apart=0.0)

    assert measures.h_score(features, labels) > 1.9  # of 2: as if the labels were known, though they are noise
    assert measures.shrunk_h_score(features, labels) < 0.6


@pytest.mark.parametrize("measure", [measures.log_me, measures.h_score, measures.shrunk_h_score])
def test_features_that_carry_the_classes_score_higher(measure) -> None:
    scores = [measure(*labelled(count=300, apart=apart)) for apart in (0.0, 1.0, 3.0)]

    assert scores[0] < scores[1] < scores[2]


def test_h_scores_of_constant_features_are_zero() -> None:
    labels = np.arange(12) % 3

    assert measures.h_score(np.ones((12, 4)), labels) == 0
    assert measures.shrunk_h_score(np.ones((12, 4)), labels) == 0


def test_leep_by_hand() -> None:
    probabilities = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    labels = np.array([0, 0, 1])
    # P(y=0, z) = (1.5, 0.5) / 3, P(y=1, z) = (0, 1) / 3, so P(0 | z) = (1, 1/3) and P(1 | z) = (0, 2/3)
    expected = np.mean(np.log([1.0, 0.5 * 1 + 0.5 / 3, 2 / 3]))

    assert measures.leep(probabilities, labels) == pytest.approx(expected, abs=1e-12)


def test_leep_is_zero_for_a_head_that_knows_and_minus_the_entropy_for_one_that_says_nothing() -> None:
    labels = np.array([0, 0, 1, 2])

    assert measures.leep(np.eye(3)[labels], labels) == pytest.approx(0.0)
    assert measures.leep(np.full((4, 5), 0.2), labels) == pytest.approx(measures.know_nothing(labels))


def test_leep_does_not_care_for_the_names_of_source_classes() -> None:
    labels = np.array([0, 1, 2, 0, 1, 2])

    assert measures.leep(np.eye(4)[(labels + 1) % 3], labels) == pytest.approx(0.0)


def test_the_standard_error_of_a_mean_over_single_images_is_the_textbook_one() -> None:
    values = np.random.default_rng(0).normal(size=30)
    left_out = [float(np.delete(values, i).mean()) for i in range(30)]

    assert standard_error(left_out) == pytest.approx(values.std(ddof=1) / np.sqrt(30))


def test_blocks_keep_groups_together_and_one_group_is_dealt_out() -> None:
    groups = np.array(["a", "b", "a", "c", "b"], dtype=object)

    block = blocks(groups, 0, count=2)

    assert block[0] == block[2] and block[1] == block[4]
    assert set(block) == {0, 1}
    assert len(set(blocks(np.array(["a"] * 8), 0, count=4))) == 4


def test_a_source_of_one_class_has_no_transferability() -> None:
    told = measures.transferability(np.ones((5, 2)), np.zeros(5, np.int64), np.arange(5), 0)

    assert told["log_me"] == {"value": None, "error": None}
    assert told["leep"] is None and "without a head" in told["leep_why"]


def test_the_error_of_a_subsample_covers_what_all_images_say() -> None:
    features, labels = labelled(count=4000, seed=5)
    told = measures.transferability(features[:500], labels[:500], np.arange(500), 0)

    whole = measures.shrunk_h_score(features, labels)

    value, error = told["h_score_shrunk"]["value"], told["h_score_shrunk"]["error"]
    assert 0 < error < 0.2
    assert abs(value - whole) < 3 * error


def test_the_error_of_the_mmd_is_about_its_spread_over_new_samples() -> None:
    rng = np.random.default_rng(0)
    values, errors = [], []
    for i in range(40):
        one, other = rng.normal(size=(60, 4)), rng.normal(0.8, 1.0, size=(50, 4))
        values.append(mmd(one, other, i)[0])
        errors.append(mmd_error(one, other, i))

    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.5)
    assert mmd_error(np.ones((5, 2)), np.ones((50, 2)), 0) is None


def test_within_classes_only_the_class_that_moved_is_apart_and_a_class_of_one_image_has_no_number() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 40)
    source = rng.normal(size=(80, 4)).astype(np.float32)
    target = rng.normal(size=(80, 4)).astype(np.float32) + 2 * (labels == 1)[:, None].astype(np.float32)

    told = class_shift(source, labels, target, labels, ["still", "moved", "absent"], 0)

    assert told["still"]["mmd_p_value"] > 0.05
    assert told["moved"]["mmd_p_value"] == pytest.approx(1 / 201)
    assert told["moved"]["sliced_wasserstein"] > 3 * told["still"]["sliced_wasserstein"]
    assert told["absent"] == {"mmd2": None, "mmd_p_value": None, "sliced_wasserstein": None, "images": [0, 0]}

"""Validators against numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from isthmus.evaluation.calibration import domain_weights
from isthmus.evaluation.validators import Trial
from isthmus.evaluation.validators.bnm import NuclearNorm
from isthmus.evaluation.validators.class_clusters import ClassClusters
from isthmus.evaluation.validators.dev import DeepEmbeddedValidation, controlled_risk, held_out_weights
from isthmus.evaluation.validators.entropy import Entropy
from isthmus.evaluation.validators.information_maximisation import InformationMaximisation
from isthmus.evaluation.validators.snd import SoftNeighbourhoodDensity
from isthmus.evaluation.validators.source_accuracy import SourceAccuracy

LOG2 = np.log(2)


def on_target(*seeds: list[list[float]]) -> Trial:
    logits = np.log(np.maximum(np.array(seeds), 1e-30)).astype(np.float32)
    rows = len(seeds[0])
    return Trial(
        source_logits=logits[0],
        source_labels=np.zeros(rows, int),
        source_features=np.eye(rows, 2),
        target_logits=logits[0],
        target_features=np.eye(rows, 2),
    )


def in_space(source: list[list[float]], right: list[bool], target: list[list[float]]) -> Trial:
    logits = np.eye(2, dtype=np.float32)[[0 if r else 1 for r in right]]
    features = np.array(source, np.float32), np.array(target, np.float32)
    shown = np.zeros((len(target), 2), np.float32)
    return Trial(
        source_logits=logits,
        source_labels=np.zeros(len(source), int),
        source_features=features[0],
        target_logits=shown,
        target_features=features[1],
    )


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


def test_the_nuclear_norm_of_even_certain_predictions_is_one_and_of_a_collapse_one_over_root_k() -> None:
    even, collapsed = on_target([[1.0, 0.0], [0.0, 1.0]]), on_target([[1.0, 0.0], [1.0, 0.0]])

    assert NuclearNorm().score(even) == pytest.approx(1.0, abs=1e-6)
    assert NuclearNorm().score(collapsed) == pytest.approx(2**-0.5, abs=1e-6)


def test_density_of_equal_predictions_is_the_log_of_the_others_and_agrees_with_a_double_loop() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(2), size=7)
    unit = p / np.linalg.norm(p, axis=1, keepdims=True)
    total = 0.0
    for t in range(7):
        weights = np.array([np.exp(unit[t] @ unit[u] / 0.05) for u in range(7) if u != t])
        weights /= weights.sum()
        total -= (weights * np.log(weights)).sum()

    assert SoftNeighbourhoodDensity(0.05).score(on_target(p.tolist())) == pytest.approx(total / 7, abs=1e-4)
    assert SoftNeighbourhoodDensity(0.05).score(on_target([[1.0, 0.0]] * 5)) == pytest.approx(np.log(4))


def test_source_accuracy_counts_right_source_predictions() -> None:
    assert SourceAccuracy().score(in_space([[0, 0]] * 4, [True, True, True, False], [[0, 0]])) == 0.75


def test_clusters_that_are_the_classes_score_one_and_clusters_across_them_about_zero() -> None:
    features = np.repeat([[-5.0, 0.0], [5.0, 0.0]], 10, axis=0) + np.random.default_rng(0).normal(size=(20, 2))
    same = on_target(np.eye(2)[[0] * 10 + [1] * 10].tolist())
    across = on_target(np.eye(2)[[0, 1] * 10].tolist())

    assert ClassClusters().score(replace(same, target_features=features)) == pytest.approx(1.0)
    assert abs(ClassClusters().score(replace(across, target_features=features))) < 0.1


def test_the_control_variate_takes_the_chance_of_the_weights_out_of_the_risk() -> None:
    # Worked by hand: w l = (0, 2, 6), mean 8/3; Cov(w l, w) = 3, Var(w) = 1, eta = -3; mean(w) - 1 = 1.
    assert controlled_risk(np.array([1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0])) == pytest.approx(8 / 3 - 3)
    assert controlled_risk(np.ones(3), np.array([0.0, 1.0, 2.0])) == 1.0


def shifted(loss_where_the_target_is: float, loss_elsewhere: float) -> Trial:
    """Source images are spread over [-3, 3], the target lies right of 1; the losses say where the model fails."""
    rng = np.random.default_rng(0)
    source, target = rng.uniform(-3, 3, (400, 2)), np.column_stack([rng.uniform(1, 3, 400), rng.uniform(-3, 3, 400)])
    loss = np.where(source[:, 0] > 1, loss_where_the_target_is, loss_elsewhere)
    likely = np.exp(-loss)
    given = in_space(source.tolist(), [True] * 400, target.tolist())
    return replace(given, source_logits=np.log(np.column_stack([likely, 1 - likely])).astype(np.float32))


def test_deep_embedded_validation_asks_for_the_loss_where_the_target_lies() -> None:
    here, elsewhere = (
        DeepEmbeddedValidation().score(shifted(1.0, 0.1)),
        DeepEmbeddedValidation().score(shifted(0.1, 1.0)),
    )

    assert here == pytest.approx(-1.0, abs=0.15)
    assert elsewhere == pytest.approx(-0.1, abs=0.15)  # the plain source risk is 0.7


def test_deep_embedded_validation_is_the_source_risk_where_the_domains_are_alike() -> None:
    rng = np.random.default_rng(1)
    likely = rng.uniform(0.2, 0.9, 500)
    given = in_space(rng.normal(size=(500, 2)).tolist(), [True] * 500, rng.normal(size=(500, 2)).tolist())
    given = replace(given, source_logits=np.log(np.column_stack([likely, 1 - likely])).astype(np.float32))

    assert DeepEmbeddedValidation().score(given) == pytest.approx(np.log(likely).mean(), abs=0.05)


def test_weights_of_deep_embedded_validation_come_from_a_fit_without_the_image_itself() -> None:
    rng = np.random.default_rng(2)
    source, target = (np.sort(rng.normal(size=(40, 1)), axis=0) for _ in range(2))

    weights = held_out_weights(source, target)

    for held, fit in ((0, 1), (1, 0)):
        one_half = domain_weights(source[fit::2], target[fit::2], source[fit::2], source[held::2])
        assert weights[held::2] == pytest.approx(one_half.target)

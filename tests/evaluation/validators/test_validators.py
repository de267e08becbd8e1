"""Validators against numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from isthmus.evaluation.calibration import domain_weights
from isthmus.evaluation.validators import Trial
from isthmus.evaluation.validators.bnm import NuclearNorm
from isthmus.evaluation.validators.class_clusters import ClassClusters
from isthmus.evaluation.validators.consensus import Consensus
from isthmus.evaluation.validators.dev import DeepEmbeddedValidation, controlled_risk, held_out_weights
from isthmus.evaluation.validators.entropy import Entropy
from isthmus.evaluation.validators.information_maximisation import InformationMaximisation
from isthmus.evaluation.validators.mixval import MixedProbes
from isthmus.evaluation.validators.nearest_source import NearestSource
from isthmus.evaluation.validators.neighbour_information import NeighbourInformation
from isthmus.evaluation.validators.others_consensus import OthersConsensus
from isthmus.evaluation.validators.reverse_validation import ReverseValidation
from isthmus.evaluation.validators.seed_agreement import SeedAgreement
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
        seeds_target_logits=logits,
        source_frozen=np.eye(rows, 2),
        target_frozen=np.eye(rows, 2),
        neighbours=np.zeros((rows, 0), int),
        consensus=np.zeros(rows, int),
        others_consensus=np.zeros(rows, int),
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
        seeds_target_logits=shown[None],
        source_frozen=features[0].astype(float),
        target_frozen=features[1].astype(float),
        neighbours=np.zeros((len(target), 0), int),
        consensus=np.zeros(len(target), int),
        others_consensus=np.zeros(len(target), int),
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


def test_consensus_is_the_share_of_images_on_which_the_pool_says_the_same() -> None:
    given = on_target([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])

    assert Consensus().score(replace(given, consensus=np.array([0, 1, 1, 1]))) == 0.75


def test_consensus_of_the_others_does_not_ask_the_candidates_own_vote() -> None:
    given = on_target([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    given = replace(given, consensus=np.array([0, 0, 1, 1]), others_consensus=np.array([0, 1, 1, 1]))

    assert OthersConsensus().score(given) == 0.75


def there_and_back(predicted: list[int]) -> Trial:
    """Two clusters per domain at the same places; the source's left one is class 0, the right one class 1."""
    rng = np.random.default_rng(0)
    left_right = np.repeat([[-5.0], [5.0]], 20, axis=0)
    shown = np.eye(2)[predicted]
    given = on_target(np.maximum(shown, 1e-6).tolist())
    return replace(
        given,
        source_labels=np.repeat([0, 1], 20),
        source_frozen=left_right + rng.normal(size=(40, 2)),
        target_frozen=left_right + rng.normal(size=(40, 2)),
    )


def test_reverse_validation_of_predictions_that_lie_as_in_the_source_is_one() -> None:
    assert ReverseValidation(1.0, 200).score(there_and_back([0] * 20 + [1] * 20)) == 1.0


def test_reverse_validation_sees_swapped_classes_which_entropy_and_information_do_not() -> None:
    right, swapped = there_and_back([0] * 20 + [1] * 20), there_and_back([1] * 20 + [0] * 20)

    assert ReverseValidation(1.0, 200).score(swapped) == 0.0
    assert Entropy().score(swapped) == Entropy().score(right)
    assert InformationMaximisation().score(swapped) == pytest.approx(InformationMaximisation().score(right))


def test_reverse_validation_of_a_collapse_is_one_over_the_number_of_classes() -> None:
    assert ReverseValidation(1.0, 200).score(there_and_back([1] * 40)) == 0.5


def test_neighbour_information_is_log_k_for_neighbours_that_agree_and_minus_a_lot_for_neighbours_that_do_not() -> None:
    given = on_target([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    alike, across = np.array([[1], [0], [3], [2]]), np.array([[2], [3], [0], [1]])

    assert NeighbourInformation().score(replace(given, neighbours=alike)) == pytest.approx(LOG2, abs=1e-6)
    assert NeighbourInformation().score(replace(given, neighbours=across)) == pytest.approx(
        LOG2 + np.log(1e-6), abs=1e-4
    )


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


def test_mixed_probes_agree_with_an_obvious_double_loop() -> None:
    logits = np.random.default_rng(3).normal(size=(9, 3))
    kept = []
    for t in range(9):
        for u in range(9):
            if logits[t].argmax() != logits[u].argmax():
                kept.append((0.7 * logits[t] + 0.3 * logits[u]).argmax() == logits[t].argmax())

    given = replace(on_target([[0.5, 0.5]] * 9), target_logits=logits)

    assert MixedProbes(0.7).score(given) == pytest.approx(np.mean(kept))


def test_mixed_probes_of_even_margins_are_all_kept_and_of_a_collapse_there_are_none() -> None:
    assert MixedProbes(0.55).score(on_target([[0.9, 0.1], [0.1, 0.9]])) == 1.0
    assert MixedProbes(0.55).score(on_target([[0.9, 0.1], [0.4, 0.6]])) == 0.5  # the unsure one loses its mixture
    assert MixedProbes(0.55).score(on_target([[0.9, 0.1], [0.8, 0.2]])) == 0.0

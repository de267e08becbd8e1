"""Our formulas against pytorch-adapt's, on the same numbers: equal to 1e-5, or the difference is held and explained."""

import math

import numpy as np
import pytest
import torch
from pytorch_adapt import layers, validators
from torch import Tensor

from isthmus.adapt import distances
from isthmus.adapt.methods.afn import norm_loss
from isthmus.adapt.methods.bnm import nuclear_norm
from isthmus.adapt.methods.mcc import class_confusion
from isthmus.adapt.predictions import diversity, entropy
from isthmus.core import plugins
from isthmus.evaluation.validators import Trial

CLASSES, WIDTH = 4, 6
NEAR = 1e-5


def rows(count: int = 24, width: int = WIDTH, seed: int = 0, moved: float = 0.0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + moved


def logits(count: int = 24, seed: int = 2) -> Tensor:
    return 2.0 * rows(count, CLASSES, seed)


def trial(source_features: Tensor, target_features: Tensor, target_logits: Tensor) -> Trial:
    """A trial in which the source's answers are right but for every fourth."""
    labels = np.arange(len(source_features)) % CLASSES
    answers = 5.0 * np.eye(CLASSES)[np.where(np.arange(len(labels)) % 4 == 3, (labels + 1) % CLASSES, labels)]
    return Trial(
        answers,
        labels,
        source_features.numpy(),
        target_logits.numpy(),
        target_features.numpy(),
    )  # type: ignore[arg-type]


def ours(name: str, given: Trial) -> float:
    return float(plugins.load("evaluation.validators", name).Config().build().score(given))


# ---- layers ----


def quadratic(source: Tensor, target: Tensor, scales: list[float], bandwidth: float | None = None) -> Tensor:
    scale = torch.tensor(scales, dtype=torch.float64)
    loss = layers.MMDLoss(kernel_scales=scale, mmd_type="quadratic", bandwidth=bandwidth)
    value: Tensor = loss(source, target)
    return value


def our_bandwidth(source: Tensor, target: Tensor) -> float:
    both = torch.cat([source, target])
    return float(torch.cdist(both, both).square().sum() / (len(both) * (len(both) - 1)))


def test_mmd_is_theirs_at_the_same_bandwidth() -> None:
    source, target = rows(), rows(20, seed=1, moved=0.5)
    bandwidths = distances.BANDWIDTHS

    theirs = quadratic(source, target, [1 / (2 * a) for a in bandwidths], our_bandwidth(source, target))

    assert float(distances.mk_mmd(source, target)) == pytest.approx(float(theirs), abs=NEAR)


def test_their_mmd_of_a_median_over_the_zero_diagonal_says_less_the_smaller_the_batch_and_is_nan_for_equal_rows() -> (
    None
):
    """Their own bandwidth is the median over all pairs of the source, each row with itself among them."""
    few, other = rows(4), rows(4, seed=1, moved=0.5)
    squared = torch.cdist(few, few).square()
    without = squared[~torch.eye(4, dtype=torch.bool)].median()

    counted = quadratic(few, other, [1.0])

    assert torch.median(squared) < 0.9 * without  # a quarter of the entries are the diagonal's zeros
    assert float(counted) == pytest.approx(float(quadratic(few, other, [1.0], float(torch.median(squared)))), abs=NEAR)
    assert abs(float(counted) - float(quadratic(few, other, [1.0], float(without)))) > 0.01
    alike = torch.ones(6, 3, dtype=torch.float64)
    assert math.isnan(float(quadratic(alike, alike, [1.0])))
    assert float(distances.mk_mmd(alike, alike)) == 0.0


def test_coral_is_theirs() -> None:
    source, target = rows(), 2.0 * rows(20, seed=1)

    assert float(distances.coral(source, target)) == pytest.approx(float(layers.CORALLoss()(source, target)), abs=NEAR)


def test_class_confusion_is_theirs_but_for_a_class_that_nobody_takes() -> None:
    """They divide by the sum of a column, we by that of a row: the matrix is symmetric, so the sums are the same."""
    answers = logits()

    assert float(class_confusion(answers, 2.5)) == pytest.approx(float(layers.MCCLoss(T=2.5)(answers)), abs=NEAR)

    unused = torch.tensor([[0.0, 0.0, -2000.0]] * 3)
    assert math.isnan(float(layers.MCCLoss()(unused)))
    assert math.isfinite(float(class_confusion(unused, 1.0)))


def test_the_nuclear_norm_is_theirs() -> None:
    answers = logits()

    assert float(nuclear_norm(answers)) == pytest.approx(-float(layers.BNMLoss()(answers)), abs=NEAR)


def test_the_norm_loss_is_theirs_in_value_and_gradient_but_for_zero_rows() -> None:
    mine, other = rows().requires_grad_(), rows().requires_grad_()

    value, theirs = norm_loss(mine, 1.5), layers.AdaptiveFeatureNorm(step_size=1.5)(other)
    value.backward()
    theirs.backward()

    assert float(value.detach()) == pytest.approx(float(theirs.detach()), abs=NEAR)
    torch.testing.assert_close(mine.grad, other.grad, atol=NEAR, rtol=0)


def test_entropy_and_diversity_are_theirs() -> None:
    answers = logits()

    assert float(entropy(answers).mean()) == pytest.approx(float(layers.EntropyLoss()(answers)), abs=NEAR)
    assert float(diversity(answers)) == pytest.approx(-float(layers.DiversityLoss()(answers)), abs=NEAR)


def test_their_reversal_turns_the_whole_gradient_from_the_first_step_and_ours_begins_at_nothing() -> None:
    from isthmus.adapt.layers import reverse_gradient
    from isthmus.adapt.schedules import grl_lambda

    slopes = []
    for turned in (layers.GradientReversal(), lambda x: reverse_gradient(x, grl_lambda(0.0, 1.0))):
        values = torch.ones(3, requires_grad=True)
        turned(values).sum().backward()
        slopes.append(values.grad)

    assert slopes[0].tolist() == [-1.0] * 3
    assert slopes[1].tolist() == [0.0] * 3


def test_their_number_of_directions_is_ignored_and_ours_is_not() -> None:
    assert layers.SlicedWasserstein(m=7).m == 128
    assert plugins.load("adapt.methods", "swd").Adaptation(4, 3, 1.0, 7, 1, 0).distance.m == 7


def test_their_search_for_the_worst_direction_is_blurred_by_rounding_and_ours_is_not() -> None:
    """For logits W x the direction sought is the largest eigenvector of W^T F W, F the Fisher matrix of p(x).

    Of rows of 384 numbers around one, a step of length 1e-6 moves each number by less than float32 can hold.
    """
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 384, generator=generator) / 384**0.5
    here = torch.randn(8, 384, generator=generator)
    shares = torch.softmax(here @ weight.T, 1)
    fisher = torch.diag_embed(shares) - shares[:, :, None] * shares[:, None, :]
    worst = torch.linalg.eigh(weight.T @ fisher @ weight).eigenvectors[..., -1]
    network = torch.nn.Linear(384, 3, bias=False)
    network.weight.data = weight

    agreement = {}
    for probe in (1e-6, 1e-2):
        torch.manual_seed(0)
        search = layers.VATLoss(num_power_iterations=8, xi=probe, epsilon=1.0)
        found = search.get_perturbation(here, here @ weight.T, network)
        agreement[probe] = float((found * worst).sum(1).abs().mean())

    assert agreement[1e-2] > 0.9999
    assert agreement[1e-6] < 0.999


# ---- validators ----


@pytest.mark.parametrize(
    ("name", "theirs"), [("information_maximisation", validators.IMValidator), ("entropy", validators.EntropyValidator)]
)
def test_validators_of_answers_are_theirs(name: str, theirs: type) -> None:
    answers = logits(60)

    score = theirs()(target_train={"logits": answers})

    assert ours(name, trial(rows(), rows(60), answers)) == pytest.approx(float(score), abs=NEAR)


def test_the_nuclear_norm_as_a_score_is_theirs_scaled_to_one() -> None:
    """Theirs is divided by T, so it depends on the number of rows; ours by the largest norm that T rows can have."""
    answers = logits(60)

    score = validators.BNMValidator()(target_train={"logits": answers})

    scaled = score * 60 / math.sqrt(60 * CLASSES)
    assert ours("bnm", trial(rows(), rows(60), answers)) == pytest.approx(scaled, abs=NEAR)


def test_soft_neighbourhood_density_is_theirs() -> None:
    answers = logits(60)

    score = validators.SNDValidator()(target_train={"preds": torch.softmax(answers, 1)})

    assert ours("snd", trial(rows(), rows(60), answers)) == pytest.approx(score, abs=NEAR)


def test_class_clusters_are_theirs_where_the_clusters_are_plain() -> None:
    """They start k-means once, from rows drawn anew each time; where it has one answer both find it."""
    labels = torch.arange(80) % CLASSES
    features = 20.0 * torch.eye(CLASSES, WIDTH, dtype=torch.float64)[labels] + 0.1 * rows(80)
    answers = 5.0 * torch.eye(CLASSES, dtype=torch.float64)[torch.where(torch.arange(80) < 70, labels, 0)]

    centred = validators.ClassClusterValidator(
        centroid_init="label_centers", target_label_fn=lambda given: given["logits"].argmax(1)
    )
    score = centred(target_train={"features": features, "logits": answers})

    assert ours("class_clusters", trial(rows(), features, answers)) == pytest.approx(float(score), abs=NEAR)

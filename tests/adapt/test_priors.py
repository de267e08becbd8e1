"""Diversity terms that aim at given class shares of the target instead of equal ones."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from isthmus.adapt import Method, Shape
from isthmus.adapt.methods.bnm import nuclear_norm
from isthmus.adapt.methods.mcc import class_confusion
from isthmus.adapt.predictions import diversity
from isthmus.core import plugins
from tests.adapt.small_session import CLASSES, WIDTH, batch, classifier, logits

PRIOR = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
EQUAL = torch.full((3,), 1 / 3, dtype=torch.float64)
# What each term says of logits under a prior; larger is better.
TERMS = {
    "shot": diversity,
    "bnm": nuclear_norm,
    "mcc": lambda values, prior=None: -class_confusion(values, 2.5, prior),
}


def certain(counts: tuple[int, ...]) -> Tensor:
    """Logits of rows that are all but sure of their class, so many of each."""
    return torch.cat([torch.eye(3, dtype=torch.float64)[k].expand(count, 3) for k, count in enumerate(counts)]) * 60.0


def built(name: str, shares: tuple[float, ...] | None) -> Method:
    return plugins.load("adapt.methods", name).Config().build(Shape(CLASSES, WIDTH, 1, 40, 7, shares))


def test_diversity_with_a_prior_is_minus_the_divergence_from_it() -> None:
    values = logits(9)
    mean = torch.softmax(values, 1).mean(0).numpy()

    slow = -sum(m * math.log(m / p) for m, p in zip(mean, PRIOR.tolist(), strict=True))

    assert float(diversity(values, PRIOR)) == pytest.approx(slow, abs=1e-12)
    assert float(diversity(PRIOR.log().expand(4, 3), PRIOR)) == pytest.approx(0.0, abs=1e-12)


def test_confusion_with_a_prior_weighs_each_class_by_it() -> None:
    values = logits(8)
    p = torch.softmax(values / 2.5, 1).numpy()
    weight = 1 + np.exp((p * np.log(p)).sum(1))
    confusion = p.T @ np.diag(8 * weight / weight.sum()) @ p

    slow = sum(PRIOR[j] * (1 - confusion[j, j] / confusion[j].sum()) for j in range(3))

    assert float(class_confusion(values, 2.5, PRIOR)) == pytest.approx(float(slow), abs=1e-12)


@pytest.mark.parametrize("term", [diversity, nuclear_norm])
def test_of_all_counts_of_certain_rows_those_of_the_prior_are_best(term: object) -> None:
    values = {
        counts: float(term(certain(counts), PRIOR))  # type: ignore[operator]
        for counts in product(range(11), repeat=3)
        if sum(counts) == 10
    }

    assert max(values, key=lambda counts: values[counts]) == (6, 3, 1)


def test_the_nuclear_norm_of_certain_rows_by_hand() -> None:
    expected = sum(math.sqrt(3 * share * count) for share, count in zip(PRIOR.tolist(), (4, 2, 3), strict=True)) / 9

    assert float(nuclear_norm(certain((4, 2, 3)), PRIOR)) == pytest.approx(expected)


@pytest.mark.parametrize("name", TERMS)
def test_equal_shares_give_the_gradient_of_the_paper_and_others_a_right_one(name: str) -> None:
    values = logits(7).requires_grad_()
    term = TERMS[name]

    plain, equal, other = (torch.autograd.grad(term(values, prior), values)[0] for prior in (None, EQUAL, PRIOR))  # type: ignore[operator]

    torch.testing.assert_close(equal, plain)
    assert not torch.allclose(other, plain)
    if name != "mcc":  # its weights are detached; `tests/adapt/methods/test_mcc.py` holds them fixed
        assert torch.autograd.gradcheck(lambda x: term(x, PRIOR), (values,))  # type: ignore[operator]


@pytest.mark.parametrize("name", TERMS)
def test_a_class_whose_share_is_zero_stays_finite(name: str) -> None:
    values = logits(7).float().requires_grad_()

    TERMS[name](values, torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)).backward()  # type: ignore[operator]

    assert values.grad is not None and torch.isfinite(values.grad).all()
    assert values.grad.dtype == torch.float32


@pytest.mark.parametrize("name", TERMS)
def test_the_shape_brings_the_prior_to_the_method_and_no_checkpoint_holds_it(name: str) -> None:
    model, sample = classifier(), batch()
    plain, aimed = built(name, None), built(name, (0.6, 0.3, 0.1))

    def losses(made: Method) -> dict[str, Tensor]:
        if name == "shot":
            return made.target_losses(model, sample, sample.target_index % CLASSES)  # type: ignore[operator]
        return made.losses(model, sample, 0.5)

    without, with_prior = losses(plain), losses(aimed)

    changed = [key for key in without if not torch.equal(without[key], with_prior[key])]
    assert changed == [{"shot": "information", "bnm": "nuclear", "mcc": "confusion"}[name]]
    assert aimed.state_dict().keys() == plain.state_dict().keys()

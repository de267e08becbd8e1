import math

import pytest
import torch
from torch.nn import functional

from isthmus.adapt.predictions import diversity, entropy, source_loss
from isthmus.data.batch import Batch, softened
from tests.adapt.small_session import logits


def test_entropy_and_diversity_by_hand() -> None:
    values = torch.tensor([[0.0, 0.0], [1000.0, 0.0], [0.0, 1000.0]])

    assert entropy(values).tolist() == pytest.approx([math.log(2), 0.0, 0.0])
    assert float(diversity(values)) == pytest.approx(math.log(2))
    assert float(diversity(values[:2])) == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert float(diversity(values[1:2])) == pytest.approx(0.0)


def test_gradients_are_right() -> None:
    assert torch.autograd.gradcheck(entropy, (logits(4).requires_grad_(),))
    assert torch.autograd.gradcheck(diversity, (logits(4).requires_grad_(),))


@pytest.mark.parametrize("function", [entropy, diversity])
def test_extreme_logits_give_finite_gradients_in_float32_under_autocast(function: object) -> None:
    values = torch.tensor([[1e4, -1e4, 0.0]] * 3, dtype=torch.bfloat16, requires_grad=True)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = function(values)  # type: ignore[operator]

    assert result.dtype == torch.float32
    result.sum().backward()
    assert values.grad is not None and torch.isfinite(values.grad).all()


def test_class_weights_give_torchs_weighted_mean_of_hard_labels_and_the_formula_of_soft_ones() -> None:
    values, labels, weights = logits(6).float(), torch.tensor([0, 0, 1, 2, 0, 1]), torch.tensor([0.5, 1.0, 2.0])
    hard = Batch(values, labels, labels, labels[:0], class_weights=weights)
    soft = softened(hard, 3, 0.3)
    by_hand = [w * y * -p for row, p_row in zip(soft.label_shares(3), values.log_softmax(1), strict=True)
               for w, y, p in zip(weights, row, p_row, strict=True)]  # fmt: skip
    mass = (soft.label_shares(3) * weights).sum()

    assert source_loss(values, hard).item() == pytest.approx(functional.cross_entropy(values, labels, weights).item())
    assert source_loss(values, soft).item() == pytest.approx((sum(by_hand) / mass).item())
    assert source_loss(values, hard, smoothing=0.3).item() == pytest.approx(source_loss(values, soft).item())
    alike = Batch(values, labels, labels, labels[:0], class_weights=torch.ones(3))
    assert source_loss(values, alike, 0.1).item() == pytest.approx(
        functional.cross_entropy(values, labels, label_smoothing=0.1).item()
    )


@pytest.mark.parametrize("weights", [None, torch.ones(3)])
def test_a_batch_of_cells_without_a_scored_pixel_has_no_loss_and_finite_gradients(weights: torch.Tensor | None) -> None:
    values, labels = logits(4).float().requires_grad_(), torch.zeros(4, dtype=torch.int64)
    batch = Batch(values, labels, labels, labels[:0], None, torch.zeros(4, 3), weights, overlap=True)

    loss = source_loss(values, batch)
    loss.backward()

    assert loss.item() == 0
    assert values.grad is not None and torch.equal(values.grad, torch.zeros(4, 3))

import math

import pytest
import torch

from isthmus.adapt.predictions import diversity, entropy
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

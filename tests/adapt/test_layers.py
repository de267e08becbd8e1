import math

import pytest
import torch

from isthmus.adapt.layers import domain_discriminator, domain_loss, reverse_gradient
from isthmus.adapt.schedules import grl_lambda


def test_reversal_leaves_values_alone_and_turns_gradients_by_its_weight() -> None:
    inputs = torch.tensor([1.0, 2.0], requires_grad=True)

    outputs = reverse_gradient(inputs, 0.25)
    (outputs * torch.tensor([3.0, 5.0])).sum().backward()

    assert outputs.tolist() == [1.0, 2.0]
    assert inputs.grad is not None
    assert inputs.grad.tolist() == [-0.75, -1.25]


@pytest.mark.parametrize("high", [1.0, 0.1])
def test_lambda_follows_the_paper(high: float) -> None:
    for p in (0.0, 0.1, 0.5, 1.0):
        assert grl_lambda(p, high) == pytest.approx(high * (2 / (1 + math.exp(-10 * p)) - 1))


def test_the_discriminator_has_no_batch_norm_and_depends_on_its_seed_alone() -> None:
    torch.manual_seed(1)
    first = domain_discriminator(4, 8, seed=5)
    torch.manual_seed(2)
    second = domain_discriminator(4, 8, seed=5)

    assert not [m for m in first.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_each_domain_weighs_half_of_the_domain_loss_in_unequal_batches() -> None:
    logits = torch.tensor([2.0, 0.0, -1.0, 3.0])

    by_hand = (math.log1p(math.exp(-2.0)) + (math.log(2) + math.log1p(math.exp(-1)) + math.log1p(math.exp(3))) / 3) / 2

    assert float(domain_loss(logits, 1)) == pytest.approx(by_hand, abs=1e-6)

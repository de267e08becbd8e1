import pytest
import torch

from isthmus.adapt.methods.afn import norm_loss
from tests.adapt.small_session import batch, classifier, logits, method


def test_the_value_is_the_squared_step_and_the_gradient_pulls_each_norm_up() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.0, 2.0]], dtype=torch.float64, requires_grad=True)

    loss = norm_loss(rows, 0.5)
    loss.backward()

    assert float(loss.detach()) == pytest.approx(0.25)
    assert rows.grad is not None  # -2 r f / ||f|| / n
    torch.testing.assert_close(rows.grad, torch.tensor([[-0.3, -0.4], [0.0, -0.5]], dtype=torch.float64))


def test_gradients_equal_those_of_the_formula_with_the_old_norm_held_fixed() -> None:
    rows = logits(5).requires_grad_()
    goal = torch.linalg.vector_norm(rows.detach(), dim=1) + 1.0

    def fixed(x: torch.Tensor) -> torch.Tensor:
        return (torch.linalg.vector_norm(x, dim=1) - goal).square().mean()

    assert torch.autograd.gradcheck(fixed, (rows,))
    torch.testing.assert_close(
        torch.autograd.grad(norm_loss(rows, 1.0), rows)[0], torch.autograd.grad(fixed(rows), rows)[0]
    )


def test_rows_of_zeros_get_no_gradient() -> None:
    rows = torch.zeros(2, 3, requires_grad=True)

    norm_loss(rows, 1.0).backward()

    assert rows.grad is not None and (rows.grad == 0).all()


def test_a_step_makes_target_and_source_features_longer() -> None:
    built, model, sample = method("afn"), classifier(), batch(5, 9)
    norms = model(sample.inputs, sample.domains).features.detach().norm(dim=1)
    before = [float(norms[:5].mean()), float(norms[5:].mean())]
    loss = built.losses(model, sample, 0.5)["norm"]
    gradients = torch.autograd.grad(loss, list(model.bottleneck.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(model.bottleneck.parameters(), gradients, strict=True):
            parameter -= 0.1 * gradient

    norms = model(sample.inputs, sample.domains).features.detach().norm(dim=1)

    assert float(norms[:5].mean()) > before[0]
    assert float(norms[5:].mean()) > before[1]

import math

import numpy as np
import pytest
import torch

from isthmus.adapt.methods.mcc import class_confusion
from tests.adapt.small_session import logits, method


def slow(values: np.ndarray, temperature: float) -> float:
    n, k = values.shape
    p = np.exp(values / temperature)
    p /= p.sum(1, keepdims=True)
    weight = [1 + math.exp(sum(x * math.log(x) for x in row)) for row in p]
    total = sum(weight)
    confusion = [[sum(p[i, a] * n * weight[i] / total * p[i, b] for i in range(n)) for b in range(k)] for a in range(k)]
    return sum(confusion[a][b] / sum(confusion[a]) for a in range(k) for b in range(k) if a != b) / k


@pytest.mark.parametrize(("rows", "classes"), [(9, 3), (1, 3), (3, 7)])
def test_class_confusion_equals_the_sums_of_the_paper(rows: int, classes: int) -> None:
    values = logits(rows, classes)

    assert float(class_confusion(values, 2.5)) == pytest.approx(slow(values.numpy(), 2.5), abs=1e-12)


def test_the_default_temperature_is_the_papers() -> None:
    assert method("mcc").temperature == 2.5


def test_certain_rows_have_no_confusion_and_even_rows_all_of_it() -> None:
    assert float(class_confusion(torch.eye(3) * 1000, 2.5)) == pytest.approx(0.0, abs=1e-6)
    assert float(class_confusion(torch.zeros(4, 3), 2.5)) == pytest.approx(2 / 3)


def test_a_class_nobody_has_any_probability_for_stays_finite() -> None:
    values = torch.tensor([[500.0, 0.0, -500.0]] * 4, requires_grad=True)

    class_confusion(values, 2.5).backward()

    assert values.grad is not None and torch.isfinite(values.grad).all()


def test_gradients_are_those_of_the_formula_with_weights_held_fixed() -> None:
    values = logits(5).requires_grad_()
    softened = torch.softmax(values.detach() / 2.5, 1)
    weights = 1 + torch.exp((softened * softened.log()).sum(1))
    weights = 5 * weights / weights.sum()

    def fixed(x: torch.Tensor) -> torch.Tensor:
        shares = torch.softmax(x / 2.5, 1)
        confusion = shares.T @ torch.diag(weights) @ shares
        rows = confusion / confusion.sum(1, keepdim=True)
        return (rows.sum() - rows.diagonal().sum()) / 3

    gradient = torch.autograd.grad(class_confusion(values, 2.5), values)[0]

    assert torch.autograd.gradcheck(fixed, (values,))
    torch.testing.assert_close(gradient, torch.autograd.grad(fixed(values), values)[0])

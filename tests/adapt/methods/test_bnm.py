import numpy as np
import pytest
import torch

from isthmus.adapt.methods.bnm import nuclear_norm
from tests.adapt.small_session import batch, classifier, logits, method


@pytest.mark.parametrize(("rows", "classes"), [(9, 3), (1, 3), (3, 7)])
def test_the_norm_is_the_sum_of_singular_values_by_the_eigenvalues_of_the_gram_matrix(rows: int, classes: int) -> None:
    values = logits(rows, classes)
    p = torch.softmax(values, 1).numpy()
    expected = np.sqrt(np.clip(np.linalg.eigvalsh(p @ p.T), 0, None)).sum() / rows

    assert float(nuclear_norm(values)) == pytest.approx(expected, abs=1e-7)


def test_the_loss_is_negative_and_certain_diverse_answers_have_the_least() -> None:
    certain, one_class, even = torch.eye(3) * 50, torch.tensor([[50.0, 0, 0]] * 3), torch.zeros(3, 3)

    assert float(nuclear_norm(certain)) > float(nuclear_norm(one_class)) > float(nuclear_norm(even))
    assert float(method("bnm").losses(classifier(), batch(), 0.5)["nuclear"].detach()) < 0


def test_gradients_agree_with_difference_quotients_and_stay_finite_for_equal_rows() -> None:
    assert torch.autograd.gradcheck(nuclear_norm, (logits(5).requires_grad_(),))
    alike = torch.zeros(4, 3, requires_grad=True)

    nuclear_norm(alike).backward()

    assert alike.grad is not None and torch.isfinite(alike.grad).all()

import numpy as np
import pytest
import torch

from isthmus.adapt.methods.m3sda import moment_distance
from tests.adapt.small_session import logits


def slow(sources: list[np.ndarray], target: np.ndarray) -> float:
    total = 0.0
    for k in (1, 2):
        means = [(rows**k).mean(0) for rows in sources]
        aim = (target**k).mean(0)
        total += sum(np.sqrt(((m - aim) ** 2).sum()) for m in means) / len(means)
        pairs = [(a, b) for a in range(len(means)) for b in range(a)]
        if pairs:
            total += sum(np.sqrt(((means[a] - means[b]) ** 2).sum()) for a, b in pairs) / len(pairs)
    return float(total)


@pytest.mark.parametrize("sizes", [(5,), (4, 1), (3, 6, 2)])
def test_the_distance_equals_the_double_sum(sizes: tuple[int, ...]) -> None:
    sources = [logits(size, seed=number) for number, size in enumerate(sizes)]
    target = logits(7, seed=9) + 1

    value = float(moment_distance(sources, target, 2))

    assert value == pytest.approx(slow([s.numpy() for s in sources], target.numpy()), abs=1e-12)


def test_by_hand() -> None:
    source, target = torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([[0.0, 0.0]])

    assert float(moment_distance([source], target, 2)) == pytest.approx(2.0 + 5.0)  # means 2, mean squares 5


def test_gradients_are_right_and_finite_where_domains_agree() -> None:
    first, second, target = logits(4).requires_grad_(), logits(3, seed=1).requires_grad_(), logits(5, seed=2)
    assert torch.autograd.gradcheck(
        lambda a, b, t: moment_distance([a, b], t, 2), (first, second, target.requires_grad_())
    )
    same = torch.ones(3, 2, requires_grad=True)

    moment_distance([same], torch.ones(2, 2), 2).backward()

    assert same.grad is not None and torch.isfinite(same.grad).all()

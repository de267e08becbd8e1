"""Distances against slow, obvious versions, and where they must not break."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from isthmus.adapt.distances import BANDWIDTHS, coral, mk_mmd


def slow_mk_mmd(source: np.ndarray, target: np.ndarray) -> float:
    rows = np.concatenate([source, target])
    total, pairs = 0.0, 0
    for i in range(len(rows)):
        for j in range(len(rows)):
            if i != j:
                total += float(((rows[i] - rows[j]) ** 2).sum())
                pairs += 1
    mean = total / pairs

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        squared = float(((x - y) ** 2).sum())
        return sum(math.exp(-squared / (2 * a * mean)) for a in BANDWIDTHS) / len(BANDWIDTHS)

    m, n = len(source), len(target)
    within_source = sum(kernel(source[i], source[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    within_target = sum(kernel(target[i], target[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    between = sum(kernel(x, y) for x in source for y in target) / (m * n)
    return within_source + within_target - 2 * between


def slow_coral(source: np.ndarray, target: np.ndarray) -> float:
    d = source.shape[1]
    difference = np.cov(source, rowvar=False) - np.cov(target, rowvar=False)
    return float((difference**2).sum()) / (4 * d * d)


def rows(count: int, width: int = 5, shift: float = 0.0, seed: int = 0) -> Tensor:
    return (
        torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * (1 + shift)
        + shift
    )


@pytest.mark.parametrize(("m", "n"), [(7, 7), (6, 9), (2, 3)])
def test_mk_mmd_equals_the_double_sum(m: int, n: int) -> None:
    source, target = rows(m), rows(n, shift=0.7, seed=1)

    assert float(mk_mmd(source, target)) == pytest.approx(slow_mk_mmd(source.numpy(), target.numpy()), abs=1e-12)


@pytest.mark.parametrize(("m", "n"), [(7, 7), (6, 9), (2, 3)])
def test_coral_equals_the_numpy_covariances(m: int, n: int) -> None:
    source, target = rows(m), rows(n, shift=0.7, seed=1)

    assert float(coral(source, target)) == pytest.approx(slow_coral(source.numpy(), target.numpy()), abs=1e-12)


def test_coral_by_hand() -> None:
    source = torch.tensor([[0.0, 0.0], [2.0, 0.0]])  # variance 2 along the first axis
    target = torch.tensor([[0.0, 0.0], [0.0, 0.0]])

    assert float(coral(source, target)) == pytest.approx(4 / 16)


def test_coral_distance_of_a_domain_to_itself_is_zero() -> None:
    assert float(coral(rows(8), rows(8))) == 0.0


def test_mk_mmd_is_unbiased_two_samples_of_one_distribution_average_to_zero() -> None:
    values = [float(mk_mmd(rows(10, seed=2 * k), rows(10, seed=2 * k + 1))) for k in range(300)]

    standard_error = np.std(values) / math.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * standard_error  # the biased estimate is about 0.1 here, 50 standard errors
    assert min(values) < 0


@pytest.mark.parametrize("distance", [mk_mmd, coral])
def test_gradients_are_right_on_both_sides(distance: object) -> None:
    source, target = rows(4, 3).requires_grad_(), rows(5, 3, 0.5, 1).requires_grad_()
    if distance is coral:
        assert torch.autograd.gradcheck(coral, (source, target))
    else:  # the bandwidth is detached by design: compare where it is held fixed by construction
        mk_mmd(source, target).backward()
        assert source.grad is not None and target.grad is not None
        assert float(source.grad.abs().sum()) > 0 and float(target.grad.abs().sum()) > 0
        # moving everything together changes nothing: the gradients of the two sides cancel
        torch.testing.assert_close(source.grad.sum(0), -target.grad.sum(0))


def test_the_bandwidth_of_mk_mmd_is_held_fixed_in_its_gradient() -> None:
    source, target = rows(4, 3).requires_grad_(), rows(5, 3, 0.5, 1)
    both = torch.cat([source.detach(), target])
    scale = torch.cdist(both, both).square().sum() / (9 * 8)

    def fixed(x: Tensor) -> Tensor:
        def kernel(a: Tensor, b: Tensor) -> Tensor:
            squared = (a[:, None] - b[None]).square().sum(2)
            return torch.stack([torch.exp(-squared / (2 * width * scale)) for width in BANDWIDTHS]).mean(0)

        within_source = kernel(x, x).sum() - 4  # the diagonal is one
        within_target = kernel(target, target).sum() - 5
        return within_source / 12 + within_target / 20 - 2 * kernel(x, target).mean()

    gradient = torch.autograd.grad(mk_mmd(source, target), source)[0]

    assert torch.autograd.gradcheck(fixed, (source,))
    torch.testing.assert_close(gradient, torch.autograd.grad(fixed(source), source)[0])


@pytest.mark.parametrize("distance", [mk_mmd, coral])
@pytest.mark.parametrize(("m", "n"), [(1, 4), (4, 1), (1, 1), (0, 3)])
def test_too_few_rows_give_zero_with_a_gradient(distance: object, m: int, n: int) -> None:
    source, target = rows(m).requires_grad_(), rows(n, seed=1)

    value = distance(source, target)  # type: ignore[operator]

    value.backward()
    assert float(value.detach()) == 0.0
    assert torch.isfinite(source.grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("distance", [mk_mmd, coral])
def test_constant_features_give_a_finite_zero(distance: object) -> None:
    source = torch.ones(4, 3, requires_grad=True)

    value = distance(source, torch.ones(5, 3))  # type: ignore[operator]

    value.backward()
    assert float(value.detach()) == pytest.approx(0.0, abs=1e-7)
    assert torch.isfinite(source.grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("distance", [mk_mmd, coral])
def test_distances_are_computed_in_float32_under_autocast(distance: object) -> None:
    source, target = (rows(8) * 100).float(), (rows(8, seed=1) * 100).float()
    expected = distance(source, target)  # type: ignore[operator]

    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = distance(source, target)  # type: ignore[operator]

    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected)

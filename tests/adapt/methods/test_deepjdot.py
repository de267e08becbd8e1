import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment, linprog

from isthmus.adapt.methods.deepjdot import pair_distances, transport_plan
from tests.adapt.small_session import batch, classifier, logits, method


def test_with_little_regularisation_the_plan_is_the_best_assignment() -> None:
    cost = pair_distances(logits(6), logits(6, seed=1))
    rows, columns = linear_sum_assignment(cost.numpy())
    best = np.zeros((6, 6))
    best[rows, columns] = 1 / 6

    plan = transport_plan(cost, 0.001, 3000)

    np.testing.assert_allclose(plan.numpy(), best, atol=1e-3)


def test_unequal_batches_meet_both_marginals_at_nearly_the_exact_cost() -> None:
    cost = pair_distances(logits(4), logits(7, seed=1))
    constraints = np.zeros((11, 28))
    for i in range(4):
        constraints[i, i * 7 : (i + 1) * 7] = 1
    for j in range(7):
        constraints[4 + j, j::7] = 1
    exact = linprog(cost.numpy().ravel(), A_eq=constraints, b_eq=[1 / 4] * 4 + [1 / 7] * 7).fun

    plan = transport_plan(cost, 0.01, 2000)

    np.testing.assert_allclose(plan.sum(1), 1 / 4, atol=1e-3)
    np.testing.assert_allclose(plan.sum(0), 1 / 7, atol=1e-9)
    assert float((plan * cost).sum()) == pytest.approx(exact, rel=0.02)


def test_pair_distances_equal_the_loop_and_have_right_gradients() -> None:
    source, target = logits(3).requires_grad_(), logits(4, seed=1).requires_grad_()

    value = pair_distances(source, target)

    for i in range(3):
        for j in range(4):
            assert float(value[i, j].detach()) == pytest.approx(
                float(((source[i] - target[j]) ** 2).sum().detach()), abs=1e-10
            )
    assert torch.autograd.gradcheck(pair_distances, (source, target))


def test_the_loss_is_the_plans_cost_and_no_gradient_runs_through_the_plan() -> None:
    built, model, sample = method("deepjdot", feature_weight=0.01, label_weight=1.0), classifier(), batch(5, 7)
    outputs = model(sample.inputs, sample.domains)
    chances = torch.log_softmax(outputs.logits[5:], 1)
    cost = torch.zeros(5, 7)
    for i in range(5):
        for j in range(7):
            apart = ((outputs.features[i] - outputs.features[5 + j]) ** 2).sum()
            cost[i, j] = 0.01 * apart - chances[j, sample.labels[i]]
    plan = transport_plan(cost, 0.05, 50)
    expected = (plan * cost).sum()

    value = built.losses(model, sample, 0.5)["transport"]

    assert not plan.requires_grad
    assert float(value.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    weights = list(model.parameters())
    for got, wanted in zip(torch.autograd.grad(value, weights), torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-3)


def test_no_cost_anywhere_gives_the_even_plan() -> None:
    assert torch.allclose(transport_plan(torch.zeros(2, 3), 0.05, 5), torch.full((2, 3), 1 / 6))

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from isthmus.adapt.methods.shot import Adaptation, centroid_labels
from tests.adapt.small_session import batch, changed, classifier, logits, method, session, snapshot


def slow_labels(features: np.ndarray, values: np.ndarray) -> list[int]:
    p = np.exp(values) / np.exp(values).sum(1, keepdims=True)
    rows = np.concatenate([features, np.ones((len(features), 1))], 1)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for _ in range(2):
        centroids = [
            sum(p[i, k] * rows[i] for i in range(len(rows))) / max(p[:, k].sum(), 1e-8) for k in range(p.shape[1])
        ]
        near = [[row @ c / max(np.linalg.norm(c), 1e-8) for c in centroids] for row in rows]
        labels = [int(np.argmax([n if k in values.argmax(1) else -9 for k, n in enumerate(line)])) for line in near]
        p = np.eye(p.shape[1])[labels]
    return labels


def test_pseudo_labels_equal_the_slow_version() -> None:
    for seed in range(5):
        features, values = logits(30, 6, seed), logits(30, 3, seed + 50)

        assert centroid_labels(features, values, 2).tolist() == slow_labels(features.numpy(), values.numpy())


def test_a_class_nobody_is_taken_for_is_given_to_no_row() -> None:
    values = logits(20, 4)
    values[:, 2] -= 50

    assert 2 not in centroid_labels(logits(20, 5, 1), values, 2).tolist()
    assert centroid_labels(torch.zeros(1, 5), values[:1], 2).shape == (1,)


def test_phase_two_losses_by_hand_and_none_reaches_the_head() -> None:
    built, model, sample = method("shot"), classifier(), batch(5, 8)
    assert isinstance(built, Adaptation)
    labels = torch.arange(8) % 3
    p = torch.softmax(model(sample.inputs[5:], sample.domains[5:]).logits, 1)
    mean = p.mean(0)

    losses = built.target_losses(model, sample, labels)

    information = -(p * p.log()).sum(1).mean() + (mean * mean.log()).sum()
    assert float(losses["information"].detach()) == pytest.approx(float(information.detach()), abs=1e-6)
    pseudo = -p[torch.arange(8), labels].log().mean()
    assert float(losses["pseudo"].detach()) == pytest.approx(0.3 * float(pseudo.detach()), rel=1e-5)
    torch.stack(list(losses.values())).sum().backward()
    assert all(parameter.grad is None for parameter in model.head.parameters())


def test_phase_one_smooths_labels_and_norms_the_head() -> None:
    built, model, sample = method("shot"), classifier(), batch(6, 6)
    assert isinstance(built, Adaptation)
    with torch.no_grad():
        built.direction *= 7.0
    weight = built.length * built.direction / built.direction.norm(dim=1, keepdim=True)
    logs = torch.log_softmax(model(sample.inputs[:6], sample.domains[:6]).features @ weight.T + model.head.bias, 1)
    wanted = torch.full((6, 3), 0.1 / 3)
    wanted[torch.arange(6), sample.labels] += 0.9

    loss = built.losses(model, sample, 0.0)["source"]
    built.after_step(model, 0.0)

    assert float(loss.detach()) == pytest.approx(float(-(wanted * logs).sum(1).mean().detach()), rel=1e-5)
    torch.testing.assert_close(model.head.weight, weight)


def test_in_phase_two_the_head_stays_and_no_source_row_is_used(tmp_path: Path) -> None:
    ends = []
    for name, spoil in (("whole", False), ("spoilt", True)):
        running = session(method("shot"), tmp_path / name)
        heads = {}
        real_epochs, real_batches = running.epochs, running.batches

        def epochs(real=real_epochs, running=running, heads=heads):
            for epoch in real():
                heads[epoch] = snapshot(running.model.head)
                yield epoch

        def batches(real=real_batches, running=running, spoil=spoil):
            for given in real():
                if spoil and running._epoch > 2:
                    inputs = given.inputs.clone()
                    inputs[: given.source_count] = torch.nan
                    given = replace(given, inputs=inputs)
                yield given

        running.epochs, running.batches = epochs, batches  # type: ignore[method-assign]
        running.method.fit(running)
        assert changed(heads[1], running.model.head)
        assert not changed(heads[3], running.model.head)
        ends.append(running.model.state_dict())

    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    assert all(torch.isfinite(value).all() for value in ends[1].values())

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from isthmus.adapt.alternating import minimise, own_optimiser
from isthmus.adapt.methods.mcd import Adaptation, discrepancy
from tests.adapt.small_session import batch, changed, classifier, logits, method, session, snapshot


def test_discrepancy_by_hand_and_by_difference_quotients() -> None:
    sure = torch.tensor([[100.0, 0.0], [0.0, 100.0]])

    assert float(discrepancy(sure, sure)) == 0.0
    assert float(discrepancy(sure, sure.flip(0))) == pytest.approx(1.0)
    assert float(discrepancy(sure, torch.zeros(2, 2))) == pytest.approx(0.5)
    assert torch.autograd.gradcheck(discrepancy, (logits(4).requires_grad_(), logits(4, seed=1).requires_grad_()))


def test_the_heads_step_moves_heads_alone_and_drives_them_apart() -> None:
    built, model, sample = method("mcd", weight=20.0), classifier(), batch()
    assert isinstance(built, Adaptation)
    like = torch.optim.AdamW([{"params": model.parameters(), "name": "head", "lr": 0.01}])
    like.add_param_group({"params": list(built.parameters()), "name": "method", "lr": 0.01})
    heads = own_optimiser({"head": model.head.parameters(), "method": built.parameters()}, like)
    encoder_before, heads_before = snapshot(model.bottleneck), snapshot(model.head)
    apart = float(built.encoder_loss(model, sample).detach())

    loss = built.heads_loss(model, sample)
    right = torch.stack(list(built.losses(model, sample, 0.0).values())).sum()
    assert float(loss.detach()) == pytest.approx(float(right.detach()) - apart, abs=1e-6)
    for _ in range(30):
        minimise(built.heads_loss(model, sample), heads, like, 10.0)

    assert changed(heads_before, model.head)
    assert not changed(encoder_before, model.bottleneck)
    assert float(built.encoder_loss(model, sample).detach()) > apart


def test_the_encoder_step_moves_the_encoder_alone_and_brings_heads_together() -> None:
    built, model, sample = method("mcd"), classifier(), batch()
    assert isinstance(built, Adaptation)
    like = torch.optim.AdamW([{"params": model.parameters(), "name": "bottleneck", "lr": 0.01}])
    encoder = own_optimiser({"bottleneck": model.bottleneck.parameters()}, like)
    before, second, bottleneck = snapshot(model.head), snapshot(built), snapshot(model.bottleneck)
    apart = float(built.encoder_loss(model, sample).detach())

    for _ in range(20):
        minimise(built.encoder_loss(model, sample), encoder, like, 10.0)

    assert not changed(before, model.head) and not changed(second, built)
    assert changed(bottleneck, model.bottleneck)
    assert float(built.encoder_loss(model, sample).detach()) < apart
    assert all(parameter.grad is None for parameter in model.head.parameters())


def test_batch_statistics_of_one_domain_do_not_reach_the_other() -> None:
    built, model, sample = method("mcd"), classifier(norm="batch"), batch()
    assert isinstance(built, Adaptation)
    count = sample.source_count
    other_source, other_target = sample.inputs.clone(), sample.inputs.clone()
    other_source[:count] += torch.randn(sample.inputs[:count].shape)
    other_target[count:] += torch.randn(sample.inputs[count:].shape)
    elsewhere = replace(sample, inputs=other_target)

    for step in (built.encoder_loss, built.heads_loss):  # each of them does hear of the target
        assert float(step(model, elsewhere).detach()) != float(step(model, sample).detach())
    assert torch.equal(
        built.encoder_loss(model, replace(sample, inputs=other_source)), built.encoder_loss(model, sample)
    )
    for part, loss in built.losses(model, elsewhere, 0.0).items():
        assert torch.equal(loss, built.losses(model, sample, 0.0)[part])


def test_a_session_counts_one_step_a_batch_and_resumes_with_both_optimisers(tmp_path: Path) -> None:
    running = session(method("mcd"), tmp_path)

    running.method.fit(running)

    assert running.progress == 1.0
    moved = {
        name: {id(p) for group in running._remembered[name].param_groups for p in group["params"]}  # type: ignore[attr-defined]
        for name in ("two_heads", "two_heads_encoder")
    }
    assert moved["two_heads"] == {id(p) for part in (running.model.head, running.method) for p in part.parameters()}
    assert moved["two_heads_encoder"] == {id(p) for p in running.model.bottleneck.parameters()}
    assert 0 < running._curves[-1]["loss_discrepancy"] < 1
    state = torch.load(tmp_path / "state.pt", weights_only=True)["state"]
    assert state["two_heads"]["state"] and state["two_heads_encoder"]["state"]

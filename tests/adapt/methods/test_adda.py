from pathlib import Path

import pytest
import torch

from isthmus.adapt.methods.adda import Adaptation, SourceEncoder
from tests.adapt.small_session import batch, changed, classifier, method, session, snapshot


def test_both_losses_equal_binary_cross_entropies_by_hand() -> None:
    built, model, sample = method("adda", weight=1.0), classifier(), batch(5, 7)
    assert isinstance(built, Adaptation)
    encoder = SourceEncoder(model)
    told = torch.sigmoid(built.discriminator(encoder(sample.inputs[:5], sample.domains[:5])))
    taken = torch.sigmoid(built.discriminator(model(sample.inputs[5:], sample.domains[5:]).features))

    judged = built.discriminator_loss(model, encoder, sample)
    fooled = built.target_loss(model, sample)

    expected = (-told.log().mean() - (1 - taken).log().mean()) / 2
    assert float(judged.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(fooled.detach()) == pytest.approx(float(-taken.log().mean().detach()), rel=1e-5)


def test_each_loss_reaches_its_own_part_alone() -> None:
    built, model, sample = method("adda"), classifier(), batch()
    assert isinstance(built, Adaptation)

    built.discriminator_loss(model, SourceEncoder(model), sample).backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in built.parameters())
    built.zero_grad(set_to_none=True)
    built.target_loss(model, sample).backward()
    assert all(p.grad is None for p in built.parameters())
    assert all(p.grad is None for p in model.head.parameters())
    assert all(p.grad is not None for p in model.bottleneck.parameters())


def test_phase_two_keeps_the_head_and_the_source_encoder_and_moves_the_target_encoder(tmp_path: Path) -> None:
    running = session(method("adda"), tmp_path)
    seen: dict[int, tuple[dict, dict]] = {}
    real = running.epochs

    def epochs():
        for epoch in real():
            seen[epoch] = snapshot(running.model.head), snapshot(running.model.bottleneck)
            yield epoch

    running.epochs = epochs  # type: ignore[method-assign]

    running.method.fit(running)

    assert not changed(seen[3][0], running.model.head)
    assert changed(seen[3][1], running.model.bottleneck)
    kept = running._remembered["adda_source_encoder"]
    assert isinstance(kept, SourceEncoder)
    assert not changed(seen[3][1], kept.bottleneck)
    assert not kept.training

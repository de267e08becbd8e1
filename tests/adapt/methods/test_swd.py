from pathlib import Path

import numpy as np
import pytest
import torch

from isthmus.adapt.methods.swd import Adaptation
from tests.adapt.small_session import CLASSES, batch, changed, classifier, logits, method, session, snapshot


def built(**options: object) -> Adaptation:
    made = method("swd", **options)
    assert isinstance(made, Adaptation)
    return made


def test_the_distance_is_that_of_sorted_projections_on_as_many_directions_as_are_set() -> None:
    first, second = logits(9), logits(9, seed=1)
    torch.manual_seed(4)
    found = float(built(directions=7).discrepancy(first, second))
    torch.manual_seed(4)
    directions = torch.randn(CLASSES, 7, dtype=torch.float64).numpy()
    directions /= np.linalg.norm(directions, axis=0)
    one, other = (np.sort(torch.softmax(x, 1).numpy() @ directions, axis=0) for x in (first, second))

    assert found == pytest.approx(float(((one - other) ** 2).mean()), rel=1e-9)


def test_heads_that_answer_alike_in_another_order_are_not_apart_as_mcd_would_have_it() -> None:
    sure = torch.tensor([[100.0, 0.0], [0.0, 100.0]])

    assert float(built().discrepancy(sure, sure.flip(0))) == pytest.approx(0.0, abs=1e-9)
    assert float(built().discrepancy(sure, torch.zeros(2, 2))) > 0.05


def test_the_type_that_numbers_have_by_default_is_put_back() -> None:
    built().discrepancy(logits(4), logits(4, seed=1))

    assert torch.get_default_dtype() == torch.float32


def test_the_heads_step_drives_apart_what_the_encoder_step_brings_together() -> None:
    made, model, sample = built(weight=3.0), classifier(), batch()
    torch.manual_seed(0)
    apart = made.encoder_loss(model, sample)
    torch.manual_seed(0)
    right = torch.stack(list(made.losses(model, sample, 0.0).values())).sum()

    heads = made.heads_loss(model, sample)

    assert float(heads.detach()) == pytest.approx(float((right - apart).detach()), abs=1e-6)
    before = snapshot(model.bottleneck)
    heads.backward()
    assert all(parameter.grad is None for parameter in model.bottleneck.parameters()) and before
    assert all(parameter.grad is not None for parameter in made.second_head.parameters())


def test_one_optimiser_does_all_turns_and_each_turn_moves_its_own_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = session(built(encoder_steps=2), tmp_path, epochs=1)
    parts = {"head": running.model.head, "second": running.method, "encoder": running.model.bottleneck}
    moved: list[set[str]] = []
    step = running.optimiser.step

    def watched(*args: object) -> None:
        before = {name: snapshot(part) for name, part in parts.items()}
        step()
        moved.append({name for name, part in parts.items() if changed(before[name], part)})

    monkeypatch.setattr(running.optimiser, "step", watched)
    running.method.fit(running)

    turn = [{"head", "second"}, {"encoder"}, {"encoder"}, {"head", "second", "encoder"}]
    assert len(moved) >= 8
    assert all(found == turn[place % 4] for place, found in enumerate(moved))
    state = torch.load(tmp_path / "state.pt", weights_only=True)["state"]
    assert set(state) == {"model", "method", "optimiser"}

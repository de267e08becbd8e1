from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from isthmus.adapt import Shape
from isthmus.adapt.methods.atdoc import Adaptation, Config
from isthmus.data.batch import Batch
from tests.adapt.small_session import CLASSES, WIDTH, batch, classifier, method, session


def built(**options: object) -> Adaptation:
    made = method("atdoc", **options)
    assert isinstance(made, Adaptation)
    return made


def filled(made: Adaptation) -> None:
    """Puts a plain memory in: image i has features near axis i mod 3 and is more or less sure of class i mod 3."""
    classes = torch.arange(40) % CLASSES
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.rand(40, WIDTH, generator=generator)
    certain = 0.4 + 0.6 * torch.rand(40, 1, generator=generator)
    made.memory.feat_memory.copy_(functional.normalize(torch.eye(CLASSES, WIDTH)[classes] + noise))
    made.memory.pred_memory.copy_(certain * torch.eye(CLASSES)[classes])


def test_pseudo_labels_are_the_mean_of_the_nearest_others_by_the_slow_way() -> None:
    made, model, sample = built(weight=2.0, neighbours=3), classifier(norm="layer"), batch(6, 8)
    filled(made)
    target = model(sample.inputs, sample.domains).split(6)[1]
    unit = functional.normalize(target.features.detach())
    total = weights = 0.0
    for place, row in enumerate(unit):
        near = made.memory.feat_memory @ row
        near[place] = -9.0  # itself
        shares = made.memory.pred_memory[near.topk(3).indices].mean(0)
        each = -torch.log_softmax(target.logits[place].detach(), 0)[shares.argmax()]
        total, weights = total + float(shares.max() * each), weights + float(shares.max())

    losses = made.losses(model, sample, 0.25)

    assert float(losses["neighbours"].detach()) == pytest.approx(2.0 * 0.25 * total / weights, rel=1e-5)


def test_the_memory_holds_a_row_after_the_step_and_not_before() -> None:
    made, model, sample = built(), classifier(norm="layer"), batch(6, 4)
    filled(made)
    before = made.memory.feat_memory.clone()
    target = model(sample.inputs, sample.domains).split(6)[1]

    made.losses(model, sample, 0.5)
    assert torch.equal(made.memory.feat_memory, before)
    made.after_step(model, 0.5)

    torch.testing.assert_close(made.memory.feat_memory[:4], functional.normalize(target.features.detach()))
    assert torch.equal(made.memory.feat_memory[4:], before[4:])
    squared = torch.softmax(target.logits.detach(), 1) ** 2
    torch.testing.assert_close(made.memory.pred_memory[:4], squared / squared.sum(0))


def test_a_class_without_any_probability_and_rows_that_are_not_finite_leave_the_memory_finite() -> None:
    made, model, sample = built(), classifier(norm="layer"), batch(6, 4)
    with torch.no_grad():
        model.head.bias[0] = -500.0
    made.losses(model, sample, 0.5)
    made.after_step(model, 0.5)
    assert made.memory.pred_memory.isfinite().all()
    assert (made.memory.pred_memory[:4].sum(0) > 0.99).all()
    before = made.memory.feat_memory[0].clone()

    broken = replace(sample, inputs=torch.cat([sample.inputs[:6], torch.full_like(sample.inputs[6:], torch.inf)]))
    made.losses(model, broken, 0.5)
    made.after_step(model, 0.5)

    assert torch.equal(made.memory.feat_memory[0], before) and made.memory.pred_memory.isfinite().all()


def test_the_memory_depends_on_its_seed_alone_and_never_asks_for_more_neighbours_than_there_are() -> None:
    first = built().memory.feat_memory
    torch.rand(5)

    assert torch.equal(first, built().memory.feat_memory)
    small = Config().build(Shape(CLASSES, WIDTH, 1, 2, 7))
    assert isinstance(small, Adaptation) and small.memory.k == 1


def test_pseudo_labels_of_a_step_that_was_not_done_do_not_stay(tmp_path: Path) -> None:
    running = session(built(), tmp_path, epochs=2)
    seen: list[Batch] = list(running._data.batches(1, 16, 3, target=True, strong=False))

    running.method.fit(running)

    assert seen and isinstance(running.method, Adaptation) and running.method._seen == []

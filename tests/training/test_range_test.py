"""The learning-rate range test: the rates it tries, what it sees, when it ends."""

from pathlib import Path

import pytest
import torch

from isthmus.models.recipe import Optimiser
from isthmus.training.range_test import range_test, steepest
from tests.adapt.small_session import method, session


def test_rates_grow_by_one_factor_and_span_the_range_over_several_epochs(tmp_path: Path) -> None:
    seen = range_test(session(method("source_only"), tmp_path), 1e-5, 1e-2, 7)

    assert seen.rates == pytest.approx([1e-5 * 1000 ** (i / 6) for i in range(7)])
    assert len(seen.losses) == len(seen.smoothed) == 7


def test_a_step_is_taken_with_its_own_rate(tmp_path: Path) -> None:
    changes = {"optimiser": Optimiser(name="sgd", momentum=0), "weight_decay": 0.0}
    running = session(method("source_only"), tmp_path, **changes)  # type: ignore[arg-type]
    before = running.model.head.weight.detach().clone()

    range_test(running, 0.01, 0.1, 3)  # the third is only looked at

    rates = {group["name"]: group["lr"] for group in running.optimiser.param_groups}
    assert rates["head"] == pytest.approx(0.1**1.5)
    assert not torch.equal(before, running.model.head.weight)


def test_a_suggestion_lies_where_the_loss_falls_and_a_diverging_loss_ends_the_test(tmp_path: Path) -> None:
    changes = {"optimiser": Optimiser(name="sgd", momentum=0)}
    seen = range_test(session(method("source_only"), tmp_path, **changes), 1e-4, 1e6, 200)  # type: ignore[arg-type]

    assert len(seen.rates) < 200
    assert seen.suggestion is not None
    assert 1e-3 < seen.suggestion < 10


def test_a_loss_that_never_falls_gives_no_suggestion() -> None:
    assert steepest([1.0, 2.0, 4.0], [1.0, 2.0, 3.0]) is None
    assert steepest([1.0], [1.0]) is None

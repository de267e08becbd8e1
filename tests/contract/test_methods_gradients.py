"""Every loss of every method: its gradient in float64 against difference quotients, and where it must not break.

A method's losses are `losses` and whatever else its class names `..._loss` or `..._losses`; one that nobody calls here
fails the first test.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError

from isthmus.adapt import Method, layers
from isthmus.adapt.methods.adda import SourceEncoder
from isthmus.core import plugins
from isthmus.data.batch import Batch
from isthmus.models.classifier import Classifier
from tests.adapt.small_session import CLASSES, batch, classifier, data, method, session, trained_methods
from tests.contract.held_fixed import Loss, Reversed, agrees_with_difference_quotients

NAMES = trained_methods()
# How the losses of methods with a loop of their own are called; the order of the classes is that of the batch.
OWN: dict[tuple[str, str], Callable[[Method, Classifier, Batch], Tensor]] = {
    ("adda", "discriminator_loss"): lambda m, c, b: m.discriminator_loss(c, SourceEncoder(c), b),
    ("adda", "target_loss"): lambda m, c, b: m.target_loss(c, b),
    ("mcd", "heads_loss"): lambda m, c, b: m.heads_loss(c, b),
    ("mcd", "encoder_loss"): lambda m, c, b: m.encoder_loss(c, b),
    ("swd", "heads_loss"): lambda m, c, b: m.heads_loss(c, b),
    ("swd", "encoder_loss"): lambda m, c, b: m.encoder_loss(c, b),
    ("shot", "target_losses"): lambda m, c, b: summed(m.target_losses(c, b, b.target_index % CLASSES)),
}
LOSSES = [*((name, "losses") for name in NAMES), *OWN]


def summed(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def built(name: str) -> Method:
    options = plugins.load("adapt.methods", name).Config.model_fields
    return method(name, **({"hidden": 4} if "hidden" in options else {}))


def loss_of(made: Method, which: str, model: Classifier, sample: Batch) -> Tensor:
    name = type(made).__module__.rpartition(".")[2]
    if which == "losses":
        return summed(made.losses(model, sample, 0.5))
    return OWN[name, which](made, model, sample)


def parts(
    name: str, source: int = 7, target: int = 5, norm: str = "batch", images: bool = False
) -> tuple[Method, Classifier, Batch]:
    made = built(name)
    images = images or made.needs == "images"
    sample = batch(source, target if made.sees_target else 0, images=images)
    return made, classifier(images=images, norm=norm), sample


def test_every_loss_of_every_method_is_called_here() -> None:
    for name in NAMES:
        own = vars(plugins.load("adapt.methods", name).Adaptation)
        found = {key for key in own if key.endswith(("_loss", "_losses"))}

        assert found == {which for method_name, which in OWN if method_name == name}, name


@pytest.mark.parametrize(("name", "which"), LOSSES)
def test_the_gradient_in_float64_agrees_with_difference_quotients(
    name: str, which: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, model, sample = parts(name, images=True)  # the backbone trains too
    made, model = made.double(), model.double()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.momentum = 0.0  # else each of the passes moves what a copy in evaluation mode answers
    if name == "coral_whitening":
        made.measure(session(made, tmp_path, model, data(images=True)))  # type: ignore[operator]
    loss = Loss({"model": model, "method": made}, lambda: loss_of(made, which, model, sample))
    real = loss.gradients()

    monkeypatch.setattr(layers, "_Reverse", Reversed)

    assert agrees_with_difference_quotients(loss)
    plain = loss.gradients()  # of what was compared; where nothing is reversed this says nothing new
    for key, value in real.items():
        torch.testing.assert_close(value, plain[key], msg=lambda text, key=key: f"{key}: {text}")
    assert any(value.abs().sum() > 0 for value in real.values())


def test_a_gradient_of_the_wrong_sign_is_noticed() -> None:
    layer = nn.Linear(2, 2).double()

    def turned_round() -> Tensor:
        values = layer(torch.ones(3, 2).double())
        values.register_hook(lambda gradient: -gradient)
        return values.square().sum()

    loss = Loss({"layer": layer}, turned_round)

    with pytest.raises(GradcheckError, match="Jacobian mismatch"):
        agrees_with_difference_quotients(loss)


EDGES = {
    "as it comes": {"source": 7, "target": 5},
    "few targets": {"source": 14, "target": 2},
    # BatchNorm has no statistics of a single row, and some losses run the rows of one domain alone
    "one target row": {"source": 6, "target": 1, "norm": "layer"},
    "one source row": {"source": 1, "target": 6, "norm": "layer"},
    "one row of each": {"source": 1, "target": 1, "norm": "layer"},
}


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize(("name", "which"), LOSSES)
def test_losses_and_gradients_stay_finite_at_every_edge(name: str, which: str, edge: str, autocast: bool) -> None:
    made, model, sample = parts(name, **EDGES[edge])  # type: ignore[arg-type]

    check_finite(made, which, model, sample, autocast)


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "which"), LOSSES)
def test_constant_features_and_a_class_that_is_absent_stay_finite(name: str, which: str, autocast: bool) -> None:
    made, model, sample = parts(name)
    strong = None if sample.target_strong is None else torch.ones_like(sample.target_strong)
    constant = replace(sample, inputs=torch.ones_like(sample.inputs), target_strong=strong)
    absent = replace(sample, labels=torch.zeros_like(sample.labels), target_index=torch.zeros_like(sample.target_index))

    for changed in (constant, absent):
        check_finite(made, which, model, changed, autocast)


def check_finite(made: Method, which: str, model: Classifier, sample: Batch, autocast: bool) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        value = loss_of(made, which, model, sample)

    assert value.dtype == torch.float32
    assert torch.isfinite(value)
    value.backward()
    found = [p.grad for part in (model, made) for p in part.parameters() if p.grad is not None]
    assert found and all(torch.isfinite(gradient).all() for gradient in found)

"""What every module of `adapt/methods/` must hold; a new one is found by itself."""

import dataclasses
import inspect
from pathlib import Path

import pytest
import torch

from isthmus.adapt import Method, MethodConfig
from isthmus.contracts import CLASSES, SIZES, batch, classifier, total
from isthmus.contracts import built_method as built
from isthmus.core import plugins
from isthmus.data.batch import Batch
from tests.adapt.small_session import session, trained_methods

NAMES = trained_methods()


@pytest.mark.parametrize("name", NAMES)
def test_the_module_links_its_paper_and_has_config_and_adaptation(name: str) -> None:
    module = plugins.load("adapt.methods", name)

    assert "https://" in (module.__doc__ or "") or name in ("source_only", "zscore")
    assert issubclass(module.Config, MethodConfig)
    assert issubclass(module.Adaptation, Method)
    assert not [base for base in module.Adaptation.__mro__[1:] if "adapt.methods" in base.__module__]
    imported = inspect.getsource(module)
    for floor in ("training", "evaluation", "stages", "registry", "models"):
        assert f"isthmus.{floor}" not in imported
    assert "adapt.methods" not in imported


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_losses_are_finite_scalars_with_gradients_for_the_whole_model(name: str, sizes: dict) -> None:
    value, model = total(name, **sizes)

    value.backward()

    assert torch.isfinite(value)
    for parameter in model.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.head.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_soft_labels_take_the_place_of_the_labels_where_a_batch_has_them(name: str) -> None:
    def losses(**changes: object) -> dict[str, float]:
        method = built(name)
        model = classifier(method)
        torch.manual_seed(1)
        found = method.losses(model, dataclasses.replace(batch(method), **changes), 0.5)  # type: ignore[arg-type]
        return {part: float(loss.detach()) for part, loss in found.items()}

    labels = batch(built(name)).labels
    sharp = torch.nn.functional.one_hot(labels, CLASSES).float()
    mixed = 0.6 * sharp + 0.4 * sharp.roll(1, 0)

    assert losses(soft_labels=mixed)["source"] != pytest.approx(losses()["source"], rel=1e-3)
    assert losses(soft_labels=sharp) == pytest.approx(losses(), rel=1e-4)
    assert losses(soft_labels=mixed, labels=labels.flip(0)) == losses(soft_labels=mixed)


@pytest.mark.parametrize("name", NAMES)
def test_losses_hold_under_bfloat16_autocast(name: str) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, _ = total(name)

    assert torch.isfinite(value)


@pytest.mark.parametrize("name", NAMES)
def test_constant_features_stay_finite(name: str) -> None:
    method = built(name)
    model = classifier(method)
    steady = batch(method)
    constant = Batch(
        torch.ones_like(steady.inputs), steady.domains, steady.labels, steady.target_index, steady.target_strong
    )

    value = torch.stack(list(method.losses(model, constant, 0.5).values())).sum()
    value.backward()

    assert torch.isfinite(value)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_only_a_method_that_may_see_the_target_is_given_target_rows(name: str, tmp_path: Path) -> None:
    method = built(name)
    running = session(method, tmp_path)
    running._epoch = 1

    given = next(running.batches())

    assert (len(given.inputs) > given.source_count) == method.sees_target
    assert (given.target_strong is not None) == method.strong_view
    assert method.sees_target or method.standardises == "source"


def test_source_only_and_zscore_differ_in_their_standardisation_and_in_nothing_else() -> None:
    methods = [built(name) for name in ("source_only", "zscore")]
    losses = [m.losses(classifier(m), batch(m), 0.0)["source"] for m in methods]

    assert not methods[0].sees_target
    assert [m.standardises for m in methods] == ["source", "domain"]
    assert torch.equal(*losses)


def test_dann_pushes_features_against_the_discriminator_and_the_discriminator_with_it() -> None:
    method = built("dann")
    model = classifier(method)
    sample = batch(method)
    domain = method.losses(model, sample, 1.0)["domain"]
    grad_features = torch.autograd.grad(domain, list(model.bottleneck.parameters()), retain_graph=True)
    grad_discriminator = torch.autograd.grad(domain, list(method.parameters()))

    rate = 1e-2
    with torch.no_grad():
        for parameter, gradient in zip(method.parameters(), grad_discriminator, strict=True):
            parameter -= rate * gradient
    after_discriminator = method.losses(model, sample, 1.0)["domain"]
    assert after_discriminator < domain  # a step of the discriminator tells domains apart better
    before = method.losses(model, sample, 1.0)["domain"]
    with torch.no_grad():
        for parameter, gradient in zip(model.bottleneck.parameters(), grad_features, strict=True):
            parameter -= rate * gradient
    assert method.losses(model, sample, 1.0)["domain"] > before  # a step of the features hides them

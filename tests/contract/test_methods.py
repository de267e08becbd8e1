"""What every module of `adapt/methods/` must hold; a new one is found by itself."""

import inspect

import pytest
import torch

from isthmus.adapt import Method, MethodConfig, Shape
from isthmus.core import plugins
from isthmus.data.batch import Batch
from isthmus.models.classifier import Classifier, Encoder, Features, Standardise

NAMES = plugins.names("adapt.methods")
CLASSES, WIDTH = 3, 6


def built(name: str, sources: int = 1) -> Method:
    torch.manual_seed(0)
    return plugins.load("adapt.methods", name).Config().build(Shape(CLASSES, WIDTH, sources, 40, 7))


def classifier(method: Method, sources: int = 1) -> Classifier:
    domains = sources + 1
    if method.needs == "images":
        network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 5))
        backbone: Encoder | Features = Encoder(network, Standardise(torch.zeros(domains, 3), torch.ones(domains, 3)))
    else:
        backbone = Features(Standardise(torch.zeros(domains, 5), torch.ones(domains, 5)))
    return Classifier(backbone, 5, CLASSES, WIDTH, "batch", 0)


def batch(
    method: Method, source: int = 12, target: int = 12, sources: int = 1, labels: list[int] | None = None
) -> Batch:
    generator = torch.Generator().manual_seed(3)
    count = source + (target if method.sees_target else 0)
    shape = (count, 3, 8, 8) if method.needs == "images" else (count, 5)
    inputs = torch.rand(shape, generator=generator)
    domains = torch.tensor([i % sources for i in range(source)] + [sources] * (count - source))
    classes = torch.tensor(labels if labels is not None else [i % CLASSES for i in range(source)])
    strong = inputs[source:].flip(0) if method.strong_view else None
    return Batch(inputs, domains, classes, torch.arange(count - source), strong)


def total(name: str, **sizes: object) -> tuple[torch.Tensor, Classifier]:
    method = built(name, int(sizes.get("sources", 1)))  # type: ignore[arg-type]
    model = classifier(method, int(sizes.get("sources", 1)))  # type: ignore[arg-type]
    losses = method.losses(model, batch(method, **sizes), 0.5)  # type: ignore[arg-type]
    assert losses and all(loss.dim() == 0 for loss in losses.values())
    return torch.stack(list(losses.values())).sum(), model


@pytest.mark.parametrize("name", NAMES)
def test_the_module_says_its_paper_and_has_config_and_adaptation(name: str) -> None:
    module = plugins.load("adapt.methods", name)

    assert module.__doc__ and len(module.__doc__.splitlines()) >= 1
    assert issubclass(module.Config, MethodConfig)
    assert issubclass(module.Adaptation, Method)
    assert module.Adaptation.__mro__[1] is Method
    imported = inspect.getsource(module)
    for floor in ("training", "evaluation", "stages", "registry", "models"):
        assert f"isthmus.{floor}" not in imported
    assert "adapt.methods" not in imported


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "sizes",
    [{}, {"source": 6, "target": 14}, {"source": 14, "target": 6}, {"sources": 2}, {"labels": [0] * 12}],
    ids=["equal", "few sources", "few targets", "two sources", "classes absent"],
)
def test_losses_are_finite_scalars_with_gradients_for_the_whole_model(name: str, sizes: dict) -> None:
    value, model = total(name, **sizes)

    value.backward()

    assert torch.isfinite(value)
    for parameter in model.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.head.parameters())


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
def test_a_method_that_must_not_see_the_target_gets_no_target_row(name: str) -> None:
    method = built(name)
    if not method.sees_target:
        assert len(batch(method).inputs) == batch(method).source_count
        assert method.standardises == "source"


def test_source_only_and_zscore_are_what_their_names_say() -> None:
    assert not built("source_only").sees_target
    assert built("zscore").standardises == "domain"
    both = batch(built("zscore"))
    values = {}
    for name in ("source_only", "zscore"):
        method = built(name)
        values[name] = method.losses(classifier(method), batch(method), 0.0)["source"]
    assert torch.equal(values["source_only"], values["zscore"]) is (len(both.labels) == 12)


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

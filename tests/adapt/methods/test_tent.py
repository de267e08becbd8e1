from pathlib import Path

import pytest
import torch

from isthmus.adapt.layer_norms import LayerNormTuner
from isthmus.adapt.predictions import entropy
from isthmus.core.errors import ConfigError
from tests.adapt.small_session import batch, changed, classifier, method, session, snapshot

NORMS = {"backbone.network.norm.weight", "backbone.network.norm.bias"}


def test_adapting_changes_only_layer_norms_and_lowers_entropy() -> None:
    built, model, sample = method("tent", rate=0.1, collapse=0.0), classifier(images=True), batch(0, 16, images=True)
    model.eval()
    before, buffers = snapshot(model), {name: b.clone() for name, b in model.named_buffers()}
    unsure = float(entropy(model(sample.inputs, sample.domains).logits).mean().detach())

    built.adapt(model, iter([sample] * 5))

    assert changed(before, model) == NORMS
    assert all(torch.equal(buffers[name], b) for name, b in model.named_buffers())
    assert float(entropy(model(sample.inputs, sample.domains).logits).mean().detach()) < unsure


def test_a_collapse_resets_the_norms() -> None:
    built, model, sample = method("tent", rate=50.0, collapse=1.0), classifier(images=True), batch(0, 16, images=True)
    before = snapshot(model)

    built.adapt(model, iter([sample] * 20))

    assert not changed(before, model)


def test_reset_restores_and_forgets_the_momentum() -> None:
    model, sample = classifier(images=True), batch(0, 8, images=True)
    before = snapshot(model)
    tuner = LayerNormTuner(model, 0.1, 0.9)

    def step() -> dict:
        tuner.step(tuner.gradients(entropy(model(sample.inputs, sample.domains).logits).mean()))
        return snapshot(model)

    first = step()
    step()
    tuner.reset()
    assert not changed(before, model)
    again = step()

    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_gradient_that_is_not_finite_is_left_out() -> None:
    model = classifier(images=True)
    before = snapshot(model)
    tuner = LayerNormTuner(model, 0.1, 0.9)

    assert not tuner.step([torch.full_like(p, torch.nan) for p in tuner.parameters])
    assert not changed(before, model)


@pytest.mark.parametrize("name", ["tent", "sar"])
def test_a_session_keeps_tuned_epochs_and_trains_on(tmp_path: Path, name: str) -> None:
    running = session(method(name, rate=0.1), tmp_path, epochs=2)

    running.method.fit(running)

    assert sorted(p.name for p in (tmp_path / "epochs").glob("*.safetensors")) == ["001.safetensors", "002.safetensors"]
    assert all(p.requires_grad for p in running.model.parameters())


@pytest.mark.parametrize("name", ["tent", "sar"])
def test_a_model_without_layer_norm_is_refused_before_training(tmp_path: Path, name: str) -> None:
    bare = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))
    running = session(method(name), tmp_path, classifier(images=True, network=bare))

    with pytest.raises(
        ConfigError, match=f"methods: {name} tunes LayerNorm, but the scenario's model has none. Allowed: a vision"
    ):
        running.method.fit(running)

from pathlib import Path

import pytest
import torch

from isthmus.adapt import Method, Shape
from isthmus.core import plugins
from isthmus.core.errors import ConfigError
from isthmus.models.classifier import Classifier, Features, Standardise
from isthmus.models.recipe import Tuning
from tests.adapt.small_session import CLASSES, INPUTS, changed, classifier, data, method, session, snapshot

OWN_LOOPS = [
    name
    for name in plugins.names("adapt.methods")
    if plugins.load("adapt.methods", name).Adaptation.fit is not Method.fit
]


@pytest.mark.parametrize("name", OWN_LOOPS)
def test_every_step_of_a_method_with_a_loop_of_its_own_clips_at_the_configured_norm(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []
    real = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda p, most: norms.append(most) or real(p, most))
    built = method(name)

    built.fit(session(built, tmp_path, epochs=2, clip=0.25))

    assert len(norms) > 2
    assert set(norms) == {0.25}


@pytest.mark.parametrize("name", ["adda", "mcd", "shot", "swd"])
def test_a_model_without_a_layer_that_trains_before_the_head_is_refused(tmp_path: Path, name: str) -> None:
    built = plugins.load("adapt.methods", name).Config().build(Shape(CLASSES, INPUTS, 1, 40, 7))
    features = Features(Standardise(torch.zeros(2, INPUTS), torch.ones(2, INPUTS)))
    model = Classifier(features, INPUTS, CLASSES, INPUTS, "batch", 0, linear=True)

    with pytest.raises(
        ConfigError, match=f"{name} moves the layers before the head.*Allowed: models: head: bottleneck"
    ):
        built.check(model)
    with pytest.raises(ConfigError, match="none of them trains"):
        built.fit(session(built, tmp_path, model))
    built.check(classifier())


@pytest.mark.parametrize("name", ["mcd", "swd"])
def test_layers_that_wait_for_their_turn_are_left_out_of_the_encoders_step(tmp_path: Path, name: str) -> None:
    running = session(
        method(name),
        tmp_path,
        classifier(images=True),
        data(images=True),
        epochs=2,
        tuning=Tuning(unfreeze_every=1),
    )
    before = snapshot(running.model.backbone)

    running.method.fit(running)

    assert changed(before, running.model.backbone)
    assert all(line["loss_discrepancy"] is not None for line in running._curves)

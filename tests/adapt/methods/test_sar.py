import math

import pytest
import torch

from isthmus.adapt.layer_norms import LayerNormTuner
from isthmus.adapt.methods.sar import Adaptation
from isthmus.adapt.predictions import entropy
from tests.adapt.small_session import CLASSES, batch, changed, classifier, method, snapshot


def sar(**options: float) -> Adaptation:
    built = method("sar", **options)
    assert isinstance(built, Adaptation)
    return built


def test_thresholds_are_shares_of_the_greatest_entropy() -> None:
    assert sar().margin == pytest.approx(0.4 * math.log(CLASSES))
    assert sar().recovery == pytest.approx(0.029 * math.log(CLASSES))


def test_a_batch_without_a_reliable_row_is_passed_over() -> None:
    built, model, sample = sar(margin=1e-6), classifier(images=True), batch(0, 8, images=True)
    before = snapshot(model)

    built.adapt(model, iter([sample] * 3))

    assert not changed(before, model)


def test_one_step_equals_the_two_gradients_of_the_paper() -> None:
    built, model = sar(margin=0.9, radius=0.3, momentum=0.0, rate=0.1), classifier(images=True)
    sample = batch(0, 8, images=True)
    model.eval()
    built.margin = float(entropy(model(sample.inputs, sample.domains).logits).median().detach())
    tuner = LayerNormTuner(model, 0.1, 0.0)
    start = [p.detach().clone() for p in tuner.parameters]

    def gradient(rows: torch.Tensor | None) -> tuple[list[torch.Tensor], torch.Tensor]:
        values = entropy(model(sample.inputs, sample.domains).logits)
        chosen = (values < built.margin).detach() if rows is None else rows & (values < built.margin).detach()
        return list(torch.autograd.grad(values[chosen].mean(), tuner.parameters)), chosen

    first, chosen = gradient(None)
    assert 0 < int(chosen.sum()) < 8
    length = math.sqrt(sum(float(g.square().sum()) for g in first))
    with torch.no_grad():
        for p, g in zip(tuner.parameters, first, strict=True):
            p += 0.3 * g / length
    second, _ = gradient(chosen)
    with torch.no_grad():
        for p, value in zip(tuner.parameters, start, strict=True):
            p.copy_(value)

    built.sharpness_aware_step(model, sample, tuner)

    for p, value, g in zip(tuner.parameters, start, second, strict=True):
        torch.testing.assert_close(p.detach(), value - 0.1 * g)


def test_a_fall_of_the_moving_entropy_under_the_threshold_resets_the_norms() -> None:
    sample = batch(0, 16, images=True)
    ends = []
    for recovery in (0.0, 1.0):
        model = classifier(images=True)
        before = snapshot(model)
        sar(margin=1.0, recovery=recovery, rate=0.1).adapt(model, iter([sample] * 3))
        ends.append(changed(before, model))

    assert ends[0] == {"backbone.network.norm.weight", "backbone.network.norm.bias"}
    assert not ends[1]

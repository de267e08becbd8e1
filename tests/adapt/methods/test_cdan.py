import math

import numpy as np
import pytest
import torch

from isthmus.adapt.methods.cdan import Adaptation, Config
from tests.adapt.small_session import CLASSES, WIDTH, Shape, batch, classifier, method


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("source", "target"), [(8, 8), (5, 9), (2, 1)])
def test_the_domain_loss_equals_the_sum_over_rows(weighted: bool, source: int, target: int) -> None:
    built, model, sample = method("cdan", entropy=weighted), classifier(), batch(source, target)
    with torch.no_grad():
        outputs = model.train()(sample.inputs, sample.domains)
    shares = torch.softmax(outputs.logits, 1).detach().numpy()
    expected = 0.0
    for rows, wanted in ((range(source), 1.0), (range(source, source + target), 0.0)):
        terms, weights = [], []
        for i in rows:
            joint = np.array([f * p for f in outputs.features[i].tolist() for p in shares[i]], dtype=np.float32)
            share = float(torch.sigmoid(built.discriminator(torch.from_numpy(joint)[None])).detach())
            terms.append(-math.log(share if wanted else 1 - share))
            weights.append(1 + math.exp(float((shares[i] * np.log(shares[i])).sum())) if weighted else 1.0)
        expected += sum(w * t for w, t in zip(weights, terms, strict=True)) / sum(weights) / 2

    assert float(built.losses(model, sample, 0.5)["domain"].detach()) == pytest.approx(expected, rel=1e-5)


def test_the_domain_loss_reaches_features_reversed_and_never_the_head() -> None:
    built, model, sample = method("cdan"), classifier(), batch()
    domain = built.losses(model, sample, 1.0)["domain"]

    assert all(
        g is None
        for g in torch.autograd.grad(domain, list(model.head.parameters()), allow_unused=True, retain_graph=True)
    )
    gradients = torch.autograd.grad(domain, list(model.bottleneck.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(model.bottleneck.parameters(), gradients, strict=True):
            parameter -= 1e-2 * gradient
    assert built.losses(model, sample, 1.0)["domain"] > domain


def test_the_random_map_is_a_buffer_used_above_4096_and_keeps_inner_products() -> None:
    shape = Shape(classes=17, bottleneck=256, sources=1, target_count=4, seed=1)
    built = Config(random_width=4096).build(shape)
    assert isinstance(built, Adaptation)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 256, generator=generator)
    classes = torch.softmax(torch.randn(2, 17, generator=generator) * 3, 1)

    joint = built.joint(features, classes)

    assert joint.shape == (2, 4096)
    assert {"feature_map", "class_map"} <= set(built.state_dict())
    assert not {"feature_map", "class_map"} & {name for name, _ in built.named_parameters()}
    exact = float((features[0] @ features[0]) * (classes[0] @ classes[0]))  # E<T(a), T(b)> = <f_a, f_b> <g_a, g_b>
    assert float(joint[0] @ joint[0]) == pytest.approx(exact, rel=0.15)
    assert not Config().build(Shape(CLASSES, WIDTH, 1, 4, 1)).random  # type: ignore[attr-defined]

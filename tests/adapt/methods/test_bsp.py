import numpy as np
import pytest
import torch

from tests.adapt.small_session import batch, classifier, method


def test_the_penalty_is_the_largest_squared_singular_values_of_each_domain_by_itself() -> None:
    model, sample = classifier(norm="layer"), batch(8, 6)
    features = model(sample.inputs, sample.domains).features.detach().double().numpy()
    by_hand = sum(np.sort(np.linalg.eigvalsh(part.T @ part))[::-1][:2].sum() for part in (features[:8], features[8:]))

    losses = method("bsp", values=2, spectral_weight=0.5).losses(model, sample, 0.5)

    assert float(losses["spectral"].detach()) == pytest.approx(0.5 * by_hand, rel=1e-4)


def test_it_is_dann_and_the_penalty() -> None:
    model, sample = classifier(norm="layer"), batch(7, 5)

    plain, penalised = (method(name).losses(model, sample, 0.7) for name in ("dann", "bsp"))

    assert torch.equal(plain["domain"], penalised["domain"]) and torch.equal(plain["source"], penalised["source"])
    slopes = [
        torch.autograd.grad(losses["domain"], list(model.bottleneck.parameters()), retain_graph=True)
        for losses in (plain, penalised)
    ]
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other)

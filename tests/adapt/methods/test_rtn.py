import pytest
import torch

from isthmus.adapt.distances import mk_mmd
from isthmus.adapt.methods.rtn import Adaptation
from isthmus.adapt.predictions import entropy, source_loss
from isthmus.data.batch import Outputs
from tests.adapt.small_session import batch, classifier, method


def built(**options: object) -> Adaptation:
    made = method("rtn", **options)
    assert isinstance(made, Adaptation)
    return made


def test_the_source_goes_through_the_residual_and_the_target_does_not() -> None:
    made, model, sample = built(entropy_weight=2.0), classifier(norm="layer"), batch(7, 5)
    source, target = model(sample.inputs, sample.domains).split(7)

    at_first = made.losses(model, sample, 0.5)
    assert torch.equal(at_first["source"], source_loss(source.logits, sample))  # the residual begins as zero
    with torch.no_grad():
        made.residual.layer[-1].weight.normal_(generator=torch.Generator().manual_seed(0))
    then = made.losses(model, sample, 0.5)

    by_hand = source.logits + made.residual.layer(source.logits)
    assert float(then["source"].detach()) == pytest.approx(float(source_loss(by_hand, sample).detach()), rel=1e-6)
    assert float(then["source"].detach()) != float(at_first["source"].detach())
    assert float(then["entropy"].detach()) == pytest.approx(2 * float(entropy(target.logits).mean().detach()), rel=1e-6)


def test_the_fusion_keeps_products_of_the_tensor_product_and_is_what_is_aligned() -> None:
    """(R f * Q g) . (R f' * Q g') / d is close to (f . f') (g . g'), the product of f (x) g with f' (x) g'."""
    made, model, sample = built(random_width=200_000, mmd_weight=3.0), classifier(norm="layer"), batch(7, 5)
    outputs = model(sample.inputs, sample.domains)
    source, target = outputs.split(7)

    fused = made.fused(outputs).detach()

    features, logits = outputs.features.detach(), outputs.logits.detach()
    exact = (features @ features.T) * (logits @ logits.T)
    assert float((fused @ fused.T - exact).abs().max()) < 0.05 * float(exact.abs().max())
    expected = 3.0 * mk_mmd(made.fused(source), made.fused(target))
    assert float(made.losses(model, sample, 0.5)["mmd"].detach()) == pytest.approx(float(expected.detach()), abs=1e-6)


def test_the_random_map_keeps_its_type_and_depends_on_its_seed_alone() -> None:
    made, model, sample = built(), classifier(norm="layer"), batch(7, 5)
    before = made.fusion.rand_mat0.clone()
    outputs = model(sample.inputs, sample.domains)
    made.fused(Outputs(outputs.features.bfloat16(), outputs.logits.bfloat16()))
    torch.rand(3)

    assert made.fusion.rand_mat0.dtype == made.fusion.rand_mat1.dtype == torch.float32
    assert torch.equal(made.fusion.rand_mat0, before) and torch.equal(before, built().fusion.rand_mat0)

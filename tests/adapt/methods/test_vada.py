import pytest
import torch
from torch.nn import functional

from isthmus.adapt.methods.vada import Adaptation
from isthmus.adapt.predictions import entropy
from isthmus.adapt.schedules import grl_lambda
from tests.adapt.small_session import batch, classifier, method


def built(**options: object) -> Adaptation:
    made = method("vada", **options)
    assert isinstance(made, Adaptation)
    return made


def test_no_drawn_direction_of_that_length_moves_the_answers_more_but_for_a_row_at_a_kink() -> None:
    made, model = built(radius=0.05, iterations=20), classifier(norm="layer")
    rows = batch(6, 6).inputs
    length = 0.05 * rows.norm(dim=1).mean()
    generator = torch.Generator().manual_seed(0)

    found = made.divergence(model, rows).detach()

    answers = functional.log_softmax(model.head(model.bottleneck(rows)), 1).detach()
    for _ in range(50):
        other = rows + length * functional.normalize(torch.randn(rows.shape, generator=generator))
        moved = functional.log_softmax(model.head(model.bottleneck(other)), 1).detach()
        drawn = (answers.exp() * (answers - moved)).sum(1)
        assert drawn.mean() < found.mean()
        assert (drawn > found * 1.1).sum() <= 1


def test_the_divergence_is_that_of_the_moved_answers_from_the_clean_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    made, model = built(), classifier(norm="layer")
    rows = batch(6, 6).inputs
    monkeypatch.setattr(made.search, "get_perturbation", lambda units, *_: torch.full_like(units, 2.0))
    moved = rows + 2.0 * rows.norm(dim=1).mean()
    clean, away = (functional.log_softmax(model.head(model.bottleneck(x)), 1).detach() for x in (rows, moved))

    found = made.divergence(model, rows).detach()

    torch.testing.assert_close(found, (clean.exp() * (clean - away)).sum(1))


def test_without_a_perturbation_nothing_diverges_also_where_batch_and_running_statistics_differ() -> None:
    made, model = built(radius=1e-9), classifier(norm="batch")
    model.train()
    rows = 3.0 + batch(6, 6).inputs

    assert made.divergence(model, rows).abs().max() < 1e-6


def test_weights_keep_their_gradients_and_parts_their_modes_and_statistics() -> None:
    made, model, sample = built(), classifier(norm="batch"), batch()
    model.train()
    model.head.eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    modes = [module.training for module in model.modules()]
    statistics = {name: value.clone() for name, value in model.bottleneck.named_buffers()}

    made.divergence(model, sample.inputs)

    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters() if p.grad is not None)
    assert all(p.grad is not None for p in model.parameters())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(statistics[name], value) for name, value in model.bottleneck.named_buffers())


def test_each_loss_has_its_weight_and_the_backbone_is_asked_once() -> None:
    options = {"weight": 2.0, "source_weight": 3.0, "target_weight": 5.0}
    made, model, sample = built(**options), classifier(norm="layer"), batch(7, 5)
    asked = []
    handle = model.backbone.register_forward_hook(lambda *_: asked.append(1))
    torch.manual_seed(0)
    losses = made.losses(model, sample, 0.5)
    handle.remove()
    torch.manual_seed(0)
    each = made.divergence(model, sample.inputs).detach()
    target = model(sample.inputs, sample.domains).split(7)[1]

    assert asked == [1]
    assert float(losses["source_divergence"].detach()) == pytest.approx(3.0 * float(each[:7].mean()), rel=1e-4)
    assert float(losses["target_divergence"].detach()) == pytest.approx(5.0 * float(each[7:].mean()), rel=1e-4)
    assert float(losses["entropy"].detach()) == pytest.approx(5.0 * float(entropy(target.logits).mean().detach()))
    model.zero_grad()
    torch.manual_seed(0)
    logits = made.discriminator(model(sample.inputs, sample.domains).features).squeeze(1)
    domain = torch.tensor([1.0] * 7 + [0.0] * 5)
    halves = [
        functional.binary_cross_entropy_with_logits(logits[rows], 1 - domain[rows]) for rows in (slice(7), slice(7, 12))
    ]
    expected = 2.0 * grl_lambda(0.5, 1.0) * sum(halves) / 2
    assert float(losses["domain"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_the_discriminators_loss_moves_it_alone_and_the_domain_loss_moves_the_features_alone() -> None:
    made, model, sample = built(), classifier(norm="layer"), batch()
    losses = made.losses(model, sample, 0.5)
    for name, moved, still in (
        ("discriminator", made.discriminator, model.bottleneck),
        ("domain", model.bottleneck, made.discriminator),
    ):
        found = torch.autograd.grad(losses[name], list(moved.parameters()), retain_graph=True)
        assert any(gradient.abs().sum() > 0 for gradient in found)
        none = torch.autograd.grad(losses[name], list(still.parameters()), retain_graph=True, allow_unused=True)
        assert all(gradient is None for gradient in none)

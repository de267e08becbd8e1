from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, OneCycleLR, StepLR

from isthmus.core.config import validated
from isthmus.core.errors import ConfigError
from isthmus.models import ModelConfig
from isthmus.models.classifier import Classifier, Encoder, Standardise
from isthmus.models.recipe import Optimiser, Schedule, Tuning
from isthmus.training.loop import kept_epochs
from isthmus.training.optim import make_optimiser, rate_factor, set_rate, weight_decay_groups


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.bottleneck, self.head = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)


def config(rate: float, backbone_rate: float, weight_decay: float, **more: Any) -> ModelConfig:
    rates = {"learning_rate": rate, "backbone_rate": backbone_rate, "weight_decay": weight_decay}
    return ModelConfig(mode="full", backbone={}, **rates, **more)


def test_the_backbone_learns_at_its_share_and_empty_groups_are_left_out() -> None:
    optimiser = make_optimiser(Parts(), nn.Identity(), config(0.01, 0.1, 0.0))

    assert {g["name"]: g["full_rate"] for g in optimiser.param_groups} == {  # with weight decay and without
        "backbone": pytest.approx(0.001),
        "bottleneck": 0.01,
        "head": 0.01,
    }


def test_frozen_parameters_are_not_in_the_optimiser() -> None:
    model = Parts()
    model.head.requires_grad_(False)

    names = {g["name"] for g in make_optimiser(model, nn.Linear(1, 1), config(0.01, 0.1, 0.0)).param_groups}

    assert names == {"backbone", "bottleneck", "method"}


def test_the_rate_warms_up_and_ends_at_zero_and_never_leaves_its_range() -> None:
    factors = [rate_factor(p / 200) for p in range(201)]

    assert 0 < factors[0] < 0.1
    assert max(factors) == rate_factor(Schedule().warm_up) == 1.0
    assert factors[-1] == 0.0
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_set_rate_moves_every_group_and_returns_the_largest() -> None:
    optimiser = make_optimiser(Parts(), nn.Identity(), config(0.01, 0.1, 0.0))

    assert set_rate(optimiser, 0.0) == 0.0
    assert set_rate(optimiser, 1.0) == 0.01
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("epochs", "keep", "kept"), [(20, 4, [5, 10, 15, 20]), (3, 5, [1, 2, 3]), (7, 2, [4, 7]), (1, 1, [1])]
)
def test_kept_epochs_are_evenly_spaced_and_end_with_the_last(epochs: int, keep: int, kept: list[int]) -> None:
    assert kept_epochs(epochs, keep) == kept


def torch_factors(schedule: Callable[[torch.optim.Optimizer], object], count: int) -> list[float]:
    """Rates of torch's own schedule over `count` steps, as a share of the full rate."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    made: Any = schedule(optimiser)
    found = []
    for _ in range(count):
        found.append(float(optimiser.param_groups[0]["lr"]))
        optimiser.step()
        made.step()
    return found


def test_one_cycle_is_torchs() -> None:
    expected = torch_factors(lambda o: OneCycleLR(o, 1.0, total_steps=2001, cycle_momentum=False), 2001)

    found = [rate_factor(step / 2000, Schedule(name="one_cycle")) for step in range(2001)]

    assert found == pytest.approx(expected, abs=2e-3)  # torch ends the rise one step earlier
    assert (found[0], found[600], found[2000]) == (pytest.approx(0.04), 1.0, pytest.approx(4e-6))


def test_steps_are_torchs() -> None:
    expected = torch_factors(lambda o: StepLR(o, 3, gamma=0.2), 10)

    found = [rate_factor(e / 10, Schedule(name="step", every=3, factor=0.2, warm_up=0), 10) for e in range(10)]

    assert found == pytest.approx(expected)
    assert found[2:4] == [1.0, pytest.approx(0.2)]


@pytest.mark.parametrize("growth", [1, 2])
def test_cosine_with_restarts_is_torchs(growth: int) -> None:
    expected = torch_factors(lambda o: CosineAnnealingWarmRestarts(o, 4, T_mult=growth), 14)

    schedule = Schedule(name="sgdr", every=4, growth=growth, warm_up=0)

    assert [rate_factor(e / 14, schedule, 14) for e in range(14)] == pytest.approx(expected)


def test_cosine_without_warm_up_is_torchs() -> None:
    expected = torch_factors(lambda o: CosineAnnealingLR(o, 20), 20)

    assert [rate_factor(s / 20, Schedule(warm_up=0)) for s in range(20)] == pytest.approx(expected)


def test_a_constant_rate_warms_up_and_stays() -> None:
    schedule = Schedule(name="constant", warm_up=0.1)

    assert [rate_factor(p, schedule) for p in (0.1, 0.5, 0.99)] == [1.0, 1.0, 1.0]
    assert rate_factor(0.0, schedule) == pytest.approx(0.001 / 0.101)


def test_a_plateau_falls_when_patience_is_full_and_counts_anew() -> None:
    schedule = Schedule(name="plateau", patience=2, factor=0.5, warm_up=0)
    watched = [3.0, 2.0, 2.1, 2.0, 1.9, 1.9, 1.95, 2.0, 2.0]

    found = [rate_factor(0.5, schedule, 10, watched[:count]) for count in range(len(watched) + 1)]

    assert found == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_sgd_with_momentum_takes_torchs_steps() -> None:
    torch.manual_seed(0)
    model, reference = Parts(), Parts()
    reference.load_state_dict(model.state_dict())
    ours = make_optimiser(
        model, nn.Identity(), config(0.1, 1.0, 0.01, optimiser=Optimiser(name="sgd", momentum=0.8, nesterov=True))
    )
    groups = weight_decay_groups(reference, 0.01)
    theirs = torch.optim.SGD(groups, lr=0.1, momentum=0.8, nesterov=True)

    for optimiser, part in ((ours, model), (theirs, reference)):
        for _ in range(3):
            optimiser.zero_grad()
            (part.head(part.bottleneck(part.backbone(torch.ones(1, 2)))) ** 2).sum().backward()
            optimiser.step()

    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), reference.parameters(), strict=True))


def test_nesterov_without_momentum_is_refused() -> None:
    with pytest.raises(ConfigError, match="nesterov needs name: sgd and momentum above 0"):
        validated(Optimiser, {"nesterov": True}, "models.vit.optimiser.")


def held(groups: list[dict[str, Any]]) -> dict[tuple[float, float], set[int]]:
    """(rate, weight decay) -> which parameters have them."""
    found: dict[tuple[float, float], set[int]] = {}
    for group in groups:
        rate = round(group.get("lr_scale", group.get("full_rate", 1.0)), 9)
        found.setdefault((rate, group["weight_decay"]), set()).update(map(id, group["params"]))
    return found


def test_norms_and_biases_have_no_weight_decay_in_any_part() -> None:
    model = Classifier(
        Encoder(timm_network("test_vit"), Standardise(torch.zeros(1, 3), torch.ones(1, 3))), 64, 3, 8, "batch", 0
    )

    for layer_decay in (1.0, 0.7):
        given = config(0.01, 0.1, 0.05, tuning=Tuning(layer_decay=layer_decay))
        optimiser = make_optimiser(model, nn.Linear(2, 2), given)
        decays = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}

        for name, parameter in model.named_parameters():
            spared = parameter.ndim < 2 or name.rpartition(".")[2] in ("pos_embed", "cls_token")
            assert decays[id(parameter)] == (0.0 if spared else 0.05), name


def timm_network(architecture: str) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(architecture, num_classes=0)
    return network


@pytest.mark.parametrize("architecture", ["test_vit", "test_efficientnet", "resnet18"])
def test_groups_are_those_of_timm(architecture: str) -> None:
    from timm.optim import param_groups_layer_decay, param_groups_weight_decay

    network = timm_network(architecture)
    network.requires_grad_(True)
    next(network.parameters()).requires_grad_(False)
    excepted = getattr(network, "no_weight_decay", set)()
    model = Parts()
    model.backbone = nn.Module()
    model.backbone.network = network

    layered = make_optimiser(model, nn.Identity(), config(1.0, 1.0, 0.05, tuning=Tuning(layer_decay=0.7))).param_groups

    assert held([g for g in layered if g["name"] == "backbone"]) == held(
        param_groups_layer_decay(network, 0.05, excepted, layer_decay=0.7)
    )
    assert held(weight_decay_groups(network, 0.05)) == held(
        param_groups_weight_decay(network, 0.05, no_weight_decay_list=excepted)
    )

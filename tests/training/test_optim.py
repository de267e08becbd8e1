import pytest
import torch
from torch import nn

from isthmus.training.loop import kept_epochs
from isthmus.training.optim import WARM_UP, make_optimiser, rate_factor, set_rate


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.bottleneck, self.head = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)


def test_the_backbone_learns_at_its_share_and_empty_groups_are_left_out() -> None:
    optimiser = make_optimiser(Parts(), nn.Identity(), 0.01, 0.1, 0.0)

    assert {g["name"]: g["full_rate"] for g in optimiser.param_groups} == {
        "backbone": pytest.approx(0.001),
        "bottleneck": 0.01,
        "head": 0.01,
    }


def test_frozen_parameters_are_not_in_the_optimiser() -> None:
    model = Parts()
    model.head.requires_grad_(False)

    names = [g["name"] for g in make_optimiser(model, nn.Linear(1, 1), 0.01, 0.1, 0.0).param_groups]

    assert names == ["backbone", "bottleneck", "method"]


def test_the_rate_warms_up_and_ends_at_zero_and_never_leaves_its_range() -> None:
    factors = [rate_factor(p / 200) for p in range(201)]

    assert 0 < factors[0] < 0.1
    assert max(factors) == rate_factor(WARM_UP) == 1.0
    assert factors[-1] == 0.0
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_set_rate_moves_every_group_and_returns_the_largest() -> None:
    optimiser = make_optimiser(Parts(), nn.Identity(), 0.01, 0.1, 0.0)

    assert set_rate(optimiser, 1.0) == 0.0
    assert set_rate(optimiser, WARM_UP) == 0.01
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("epochs", "keep", "kept"), [(20, 4, [5, 10, 15, 20]), (3, 5, [1, 2, 3]), (7, 2, [4, 7]), (1, 1, [1])]
)
def test_kept_epochs_are_evenly_spaced_and_end_with_the_last(epochs: int, keep: int, kept: list[int]) -> None:
    assert kept_epochs(epochs, keep) == kept


def test_torch_is_imported_beside_a_torchvision_of_another_build() -> None:
    import torchvision  # the package's import hook has declared what its CUDA build asks for

    assert torchvision.__version__
    assert torch.__version__

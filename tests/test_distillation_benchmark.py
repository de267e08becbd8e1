"""The student's losses, and the settings it is trained with."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from benchmarks.distillation import FULL, SMALL, Distilled, with_model
from isthmus.data.batch import Batch, Outputs
from isthmus.models import ModelConfig

SHIPPED = Path(__file__).parents[1] / "params.yaml"


class _Logits(nn.Module):
    def forward(self, inputs: torch.Tensor, domains: torch.Tensor) -> Outputs:
        return Outputs(inputs, inputs)


def test_the_students_loss_is_the_cross_entropy_to_the_teachers_row_of_the_same_image() -> None:
    teacher = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], np.float32)
    given = np.array([[0.3, 0.7], [0.6, 0.4], [0.25, 0.75]])  # one source row, then target rows 2 and 0
    inputs = torch.from_numpy(np.log(given)).float()
    batch = Batch(inputs, torch.tensor([0, 1, 1]), torch.tensor([1]), torch.tensor([2, 0]))

    losses = Distilled(teacher, source=2.0).losses(_Logits(), batch, 0.5)

    of_rows = [-0.5 * np.log(0.6) - 0.5 * np.log(0.4), -0.9 * np.log(0.25) - 0.1 * np.log(0.75)]
    assert losses["teacher"].item() == pytest.approx(np.mean(of_rows), rel=1e-5)
    assert losses["source"].item() == pytest.approx(-2 * np.log(0.7), rel=1e-5)


@pytest.mark.parametrize("changed", [{"backbone": SMALL}, FULL])
def test_the_settings_of_the_small_networks_are_valid(tmp_path: Path, changed: dict[str, object]) -> None:
    written = yaml.safe_load(with_model(SHIPPED, changed, tmp_path / "params.yaml").read_text())

    assert ModelConfig.model_validate(written["models"]["vit"]).backbone["architecture"] == "mobilenetv2_100"

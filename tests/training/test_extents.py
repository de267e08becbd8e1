"""The head of boxes: it learns how far edges lie from a cell, and adaptation never moves it."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from isthmus.core.errors import DataError
from isthmus.evaluation.scoring.boxes import box_iou
from isthmus.models.classifier import Features, Standardise
from isthmus.models.extents import ExtentHead, iou_loss
from isthmus.training.data import TrainingData
from isthmus.training.extents import fit_extents


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small matrices: a second thread costs more than it gives, above all where others want the processor too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Cells:
    """Features of cells in memory."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def take(self, positions: np.ndarray) -> np.ndarray:
        return self.values[positions]


GRID = (2, 5)


def cells(extents: np.ndarray) -> TrainingData:
    """Returns cells of images of ten whose features are the logarithms of their extents, turned."""
    turn = np.random.default_rng(1).normal(size=(4, 6))
    values = (np.log(np.nan_to_num(extents, nan=1.0)) @ turn).astype(np.float32)
    rows = np.arange(len(values))
    empty = rows[:0]
    domains = np.zeros(len(values), np.int64)
    return TrainingData(Cells(values), domains, rows * 0, [rows], empty, empty, False, cells=GRID[0] * GRID[1])


def images(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.reshape(-1, GRID[0] * GRID[1], 6))


def backbone() -> nn.Module:
    return Features(Standardise(torch.zeros(2, 6), torch.ones(2, 6)))


def test_the_loss_is_the_logarithm_of_the_iou() -> None:
    one, other = torch.rand(20, 4) + 0.1, torch.rand(20, 4) + 0.1

    boxes = [torch.cat([-part[:, :2], part[:, 2:]], dim=1).numpy() for part in (one, other)]
    expected = -np.log(np.diag(box_iou(*boxes))).mean()
    assert float(iou_loss(one, other)) == pytest.approx(expected, rel=1e-5)


def test_the_head_learns_the_extents_of_cells_in_boxes_and_no_others() -> None:
    rng = np.random.default_rng(0)
    extents = rng.uniform(0.5, 5, (600, 4)).astype(np.float32)
    extents[500:] = np.nan

    head = fit_extents(backbone(), cells(extents), extents, GRID, views=False, seed=3)
    again = fit_extents(backbone(), cells(extents), extents, GRID, views=False, seed=3)

    found = head(images(cells(extents).inputs.take(np.arange(500))))
    assert float(iou_loss(found, torch.from_numpy(extents[:500]))) < 0.12
    assert all(not p.requires_grad for p in head.parameters()) and not head.training
    assert all(torch.equal(a, b) for a, b in zip(head.state_dict().values(), again.state_dict().values(), strict=True))


def test_views_are_trained_on_where_the_method_wants_them() -> None:
    extents = np.random.default_rng(0).uniform(0.5, 5, (60, 4)).astype(np.float32)
    data = cells(extents)
    data = replace(data, views=(Cells(-data.inputs.take(np.arange(60))),))

    plain, viewed = (fit_extents(backbone(), data, extents, GRID, views=views, seed=0) for views in (False, True))

    view, truth = images(data.views[0].take(np.arange(60))), torch.from_numpy(extents)
    assert float(iou_loss(viewed(view), truth)) < float(iou_loss(plain(view), truth)) - 0.5


def test_boxes_without_a_cells_centre_are_refused() -> None:
    extents = np.full((10, 4), np.nan, np.float32)

    with pytest.raises(DataError, match="no box of the source's training images holds the centre of a cell"):
        fit_extents(backbone(), cells(extents), extents, GRID, views=False, seed=0)


def test_extents_are_positive_and_finite_for_any_features() -> None:
    found = ExtentHead(6, GRID)(torch.full((2, 10, 6), 1e6))

    assert found.shape == (20, 4)
    assert bool((found > 0).all()) and bool(found.isfinite().all())


def test_a_cell_sees_two_cells_around_it_in_its_own_image_and_order() -> None:
    head, cells = ExtentHead(6, (7, 9)), torch.zeros(2, 63, 6, requires_grad=True)
    place = 3 * 9 + 4  # row 3, column 4

    head(cells)[63 + place].sum().backward()

    assert cells.grad is not None
    seen = cells.grad.abs().sum(dim=2).reshape(2, 7, 9) > 0
    assert not seen[0].any()
    assert seen[1].nonzero().tolist() == [[row, column] for row in range(1, 6) for column in range(2, 7)]

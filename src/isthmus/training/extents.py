"""Trains the extents of boxes on the source's images with cells that lie in one, before and beside any adaptation.

The head stands on the frozen, standardised features, so it is the same whatever method trains the classes beside it.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from isthmus.core.errors import DataError
from isthmus.core.seeds import derive_seed
from isthmus.data.shards import cells_of
from isthmus.models.extents import ExtentHead, iou_loss
from isthmus.training.data import Inputs, TrainingData

_STEPS, _BATCH, _RATE, _DECAY = 600, 4, 1e-3, 1e-3  # a batch is of images


def fit_extents(
    backbone: nn.Module,
    data: TrainingData,
    extents: NDArray[np.float32],
    grid: Sequence[int],
    views: bool,
    seed: int,
) -> ExtentHead:
    """Returns a trained head whose weights stay as they are.

    Args:
        backbone: standardises features of cells.
        data: of cells.
        extents: float32 `[N * T, 4]` of `data/boxes.py: source_extents`, NaN outside of boxes.
        grid: rows and columns of an image's T cells.
        views: whether photometric views are trained on too.
        seed: of weights and batches.

    Raises:
        DataError: no cell's centre lies in a box.
    """
    rows = np.concatenate(data.source_train)
    images = np.unique(rows[np.isfinite(extents[rows]).all(axis=1)] // data.cells)
    if not len(images):
        raise DataError(
            "no box of the source's training images holds the centre of a cell: they are smaller than cells. Raise"
            " 'image_size' of the scenario's model, or cut frames into smaller tiles ('tiles.size')"
        )
    inputs = [data.inputs, *(data.views if views else ())]
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(derive_seed(seed, "extents"))
        head = ExtentHead(backbone(*_cells(data, inputs, images[:1], [0])).shape[2], grid)
        optimiser = torch.optim.AdamW(head.parameters(), _RATE, weight_decay=_DECAY, fused=True)
        for _ in range(_STEPS):
            drawn = images[torch.randint(len(images), (_BATCH,)).numpy()]
            looks = torch.randint(len(inputs), (_BATCH,)).tolist()
            truth = torch.from_numpy(extents[cells_of(drawn, data.cells)])
            inside = truth.isfinite().all(dim=1)
            optimiser.zero_grad(set_to_none=True)
            found = head(backbone(*_cells(data, inputs, drawn, looks)))
            iou_loss(found[inside], truth[inside]).backward()
            optimiser.step()
    return head.requires_grad_(False).eval()


def _cells(
    data: TrainingData, inputs: Sequence[Inputs], images: NDArray[np.int64], looks: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns features of the cells of images, of each in one look, float32 `[n, T, D]`, and domains `[n]`."""
    taken = [inputs[look].take(cells_of(images[n : n + 1], data.cells)) for n, look in enumerate(looks)]
    return torch.from_numpy(np.stack(taken)).float(), torch.from_numpy(data.domains[images * data.cells])

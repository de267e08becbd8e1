"""Trains the extents of boxes on the source's cells that lie in one, before and beside any adaptation.

The head stands on the frozen, standardised features, so it is the same whatever method trains the classes beside it.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from isthmus.core.errors import DataError
from isthmus.core.seeds import derive_seed
from isthmus.models.extents import ExtentHead, iou_loss
from isthmus.training.data import TrainingData

_STEPS, _BATCH, _RATE, _DECAY = 600, 256, 1e-3, 1e-3
_MOST = 50_000  # [cell] that are looked at; more say no more


def fit_extents(
    backbone: nn.Module, data: TrainingData, extents: NDArray[np.float32], views: bool, seed: int
) -> ExtentHead:
    """Returns a trained head whose weights stay as they are.

    Args:
        backbone: standardises features of cells.
        data: of cells.
        extents: float32 `[N * T, 4]` of `data/boxes.py: source_extents`, NaN outside of boxes.
        views: whether photometric views are trained on too.
        seed: of weights and batches.

    Raises:
        DataError: no cell's centre lies in a box.
    """
    rows = np.concatenate(data.source_train)
    rows = rows[np.isfinite(extents[rows]).all(axis=1)]
    if not len(rows):
        raise DataError(
            "no box of the source's training images holds the centre of a cell: they are smaller than cells. Raise"
            " 'image_size' of the scenario's model, or cut frames into smaller tiles ('tiles.size')"
        )
    rows = rows[:: -(-len(rows) // _MOST)]
    domains, truth = torch.from_numpy(data.domains[rows]), torch.from_numpy(extents[rows])
    inputs = [data.inputs, *(data.views if views else ())]
    with torch.no_grad():
        features = torch.stack([backbone(torch.from_numpy(part.take(rows)).float(), domains) for part in inputs])
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(derive_seed(seed, "extents"))
        head = ExtentHead(features.shape[2])
        optimiser = torch.optim.AdamW(head.parameters(), _RATE, weight_decay=_DECAY, fused=True)
        for _ in range(_STEPS):
            drawn = torch.randint(len(rows), (_BATCH,))
            looks = torch.randint(len(inputs), (_BATCH,))
            optimiser.zero_grad(set_to_none=True)
            iou_loss(head(features[looks, drawn]), truth[drawn]).backward()
            optimiser.step()
    return head.requires_grad_(False).eval()

"""Mean and std of inputs by domain, from training rows alone: what standardisation subtracts and divides by."""

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isthmus.training.data import TrainingData

_MOST = 100_000  # [row] that statistics are taken of

Standardisation = Literal["source", "domain"]


def feature_statistics(data: TrainingData, how: Standardisation) -> tuple[Tensor, Tensor]:
    """Returns mean and std, float32 `[domains, D]`.

    `source`: the pooled source training rows' statistics stand for every domain, and no target row is read.
    `domain`: each domain's own training rows.
    """
    pooled = _moments(data, np.concatenate(data.source_train))
    if how == "source":
        rows = [pooled] * (len(data.source_train) + 1)
    else:
        rows = [_moments(data, part) for part in (*data.source_train, data.target_train)]
    return torch.stack([mean for mean, _ in rows]), torch.stack([std for _, std in rows])


def _moments(data: TrainingData, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    each = data.inputs.take(rows[:1]).shape[1:-1]  # cells of an image, where rows are images
    rows = rows[:: -(-len(rows) * math.prod(each) // _MOST)]  # evenly spaced: millions of cells say no more
    values = data.inputs.take(rows).astype(np.float64)
    values = values.reshape(-1, values.shape[-1])
    return torch.from_numpy(values.mean(0)).float(), torch.from_numpy(values.std(0)).float()

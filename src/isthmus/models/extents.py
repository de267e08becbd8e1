"""How far the edges of an object's box lie from a cell's centre: the part of a detector beside the class of a cell."""

import torch
from torch import Tensor, nn

_WIDTH = 256
_MOST = 6.0  # [log of cells]: four hundred cells, more than any grid has


class ExtentHead(nn.Module):
    """Standardised features of cells -> distances to left, top, right and bottom edge, in cells, all positive.

    Args:
        feature_dim: D.
    """

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(feature_dim, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, 4))

    def forward(self, features: Tensor) -> Tensor:
        """Returns float32 `[N, 4]` of `[N, D]`."""
        extents: Tensor = self.layers(features).clamp(-_MOST, _MOST).exp()
        return extents


def iou_loss(extents: Tensor, truth: Tensor) -> Tensor:
    """Returns the mean of -ln IoU of boxes that share a cell's centre, given by their extents `[N, 4]`.

    Yu, Jiang, Wang, Cao, Huang, UnitBox, ACM MM 2016, algorithm 1 (https://arxiv.org/abs/1608.01471).

    >>> float(iou_loss(torch.tensor([[1.0, 1, 1, 1]]), torch.tensor([[1.0, 1, 1, 3]])).exp())
    2.0
    """
    inner, outer = torch.minimum(extents, truth), [extents, truth]
    shared = (inner[:, 0] + inner[:, 2]) * (inner[:, 1] + inner[:, 3])
    areas = [(box[:, 0] + box[:, 2]) * (box[:, 1] + box[:, 3]) for box in outer]
    return ((areas[0] + areas[1] - shared) / shared).log().mean()

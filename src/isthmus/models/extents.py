"""How far the edges of an object's box lie from a cell's centre: the part of a detector beside the class of a cell.

3 x 3 convolutions over the grid of cells, as in the regression branch of FCOS (Tian et al., ICCV 2019,
https://arxiv.org/abs/1904.01355): they see the cells where the edges are. Differs: two of 64 channels and not four of
256, without normalisation; the loss is that of `iou_loss` (docs/decisions/0044).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_WIDTH = 64
_MOST = 6.0  # [log of cells]: four hundred cells, more than any grid has


class ExtentHead(nn.Module):
    """Standardised features of cells -> distances to left, top, right and bottom edge, in cells, all positive.

    Args:
        feature_dim: D.
        grid: rows and columns of an image's T cells.
        by_cell: two layers that see a cell alone, as in models that were registered before there were convolutions.
    """

    def __init__(self, feature_dim: int, grid: Sequence[int], by_cell: bool = False) -> None:
        super().__init__()
        self.grid = tuple(grid)
        if by_cell:
            self.layers = nn.Sequential(nn.Conv2d(feature_dim, 256, 1), nn.ReLU(), nn.Conv2d(256, 4, 1))
            return
        self.layers = nn.Sequential(
            nn.Conv2d(feature_dim, _WIDTH, 1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, 4, 1),
        )

    def forward(self, cells: Tensor) -> Tensor:
        """Returns float32 `[N * T, 4]` of `[N, T, D]`, row by row of the grid."""
        maps = cells.transpose(1, 2).unflatten(2, self.grid)
        extents: Tensor = self.layers(maps).clamp(-_MOST, _MOST).exp()
        return extents.permute(0, 2, 3, 1).flatten(0, 2)


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

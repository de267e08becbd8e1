"""An encoder that answers for each cell of the image's grid: what masks are learnt from.

A row of training is one cell, so that every adaptation method works on it as on an image's features. Of two images of
one place a cell has |a - b| and (a + b) / 2, as in Daudt et al., Fully Convolutional Siamese Networks for Change
Detection, ICIP 2018, whose difference the first half is.
"""

import torch
from torch import Tensor, nn

from isthmus.models.classifier import Encoder, Standardise
from isthmus.models.tokens import tokens


class CellEncoder(Encoder):
    """Raw pixels -> features of each cell.

    Args:
        network: a backbone of timm.
        standardise: of pixels.
        images: of one place that an example holds, one behind the other in its channels.
        layer: whose features cells have (`models/tokens.py`); None: the network's end.

    Attributes:
        grid: rows and columns of cells of the last images.
    """

    def __init__(self, network: nn.Module, standardise: Standardise, images: int = 1, layer: int | None = None) -> None:
        super().__init__(network, standardise)
        self.images = images
        self.layer = layer
        self.grid = (0, 0)

    def forward(self, images: Tensor, domains: Tensor) -> Tensor:
        """Returns float32 `[N, T, D]` of images `[N, images * C, H, W]`; D is twice the network's for two images.

        Raises:
            ConfigError: the network has no features by place, or no such layer.
        """
        found = [self._of(part, domains) for part in images.chunk(self.images, dim=1)]
        if len(found) == 1:
            return found[0]
        return torch.cat([(found[0] - found[1]).abs(), (found[0] + found[1]) / 2], dim=2)

    def _of(self, images: Tensor, domains: Tensor) -> Tensor:
        seen = tokens(self.network, self.pixels(images, domains), self.layer)
        self.grid = (seen.rows, seen.columns)
        return seen.values

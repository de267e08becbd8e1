"""A head without weights: the nearest training images vote.

Wu, Xiong, Yu, Lin, Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018,
https://arxiv.org/abs/1805.01978, section 3.4: each of the k nearest under the cosine votes for its class with weight
exp(s_i / T). Caron et al., Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021 (DINO), appendix, take
k = 20 and T = 0.07. Differs: features are standardised first, as every head here sees them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEAST = 1e-6  # [share] of a class that no neighbour votes for: its logit stays finite, and no calibration is upset


class NeighbourHead(nn.Module):
    """Features `[N, D]` -> logits `[N, K]`, whose softmax are the shares of the votes.

    Args:
        count: M, training rows that are remembered; until `remember` was called they are zeros of class 0.
        feature_dim: D.
        classes: K.
        neighbours: k, of which there are at most M.
        temperature: T.

    Attributes:
        rows: float32 `[M, D]`, of unit length.
        labels: int64 `[M]`.
        out_features: K, as a linear layer's.
    """

    def __init__(self, count: int, feature_dim: int, classes: int, neighbours: int, temperature: float) -> None:
        super().__init__()
        self.out_features = classes
        self.neighbours, self.temperature = neighbours, temperature
        self.rows: Tensor
        self.labels: Tensor
        self.register_buffer("rows", torch.zeros(count, feature_dim))
        self.register_buffer("labels", torch.zeros(count, dtype=torch.int64))

    @torch.no_grad()
    def remember(self, features: Tensor, labels: Tensor) -> None:
        """Takes the training rows, float32 `[M, D]`, and their classes, int64 `[M]`."""
        self.rows.copy_(functional.normalize(features, dim=1))
        self.labels.copy_(labels)

    def forward(self, features: Tensor) -> Tensor:
        """Returns log of the classes' shares of the votes."""
        nearness = functional.normalize(features, dim=1) @ self.rows.T
        nearest, places = nearness.topk(min(self.neighbours, len(self.rows)), dim=1)
        votes = functional.softmax(nearest / self.temperature, dim=1)
        shares = features.new_zeros(len(features), self.out_features).scatter_add_(1, self.labels[places], votes)
        return torch.log((1.0 - _LEAST * self.out_features) * shares + _LEAST)

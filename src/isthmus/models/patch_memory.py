"""A head that remembers good images: what is far from all that it remembers is a defect.

Roth et al., Towards Total Recall in Industrial Anomaly Detection (PatchCore), CVPR 2022,
https://arxiv.org/abs/2106.08265, section 3: the score of a cell is the distance to the nearest remembered cell, that of
an image the largest of its cells. Differs (docs/decisions/0043): cells are those of one middle layer of a vision
transformer (`layer` of the model), which see their surroundings already, so they are not averaged with their
neighbours; of more cells than the memory holds, evenly spaced ones are kept and no coreset; an image's score is not
weighted by the neighbours' own distances.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

LEAST_DISTANCE = 1e-12  # of a cell that is remembered as it is: its logarithm stays finite
_AT_ONCE = 4096  # cells that are compared with the memory together
_EDGE = 1e-9  # rounding of (n + 1)(1 - alpha), where that is a whole number


class PatchMemory(nn.Module):
    """Cells `[N, T, D]` -> logits `[N, 2]` of good and defective: 0, and log(largest distance / threshold).

    Args:
        feature_dim: D.
        domains: number of domains, each of which has a threshold of its own.

    Attributes:
        rows: float32 `[M, D]`, of which there are none at first.
        threshold: float32 `[domains]`, the distance above which an image of a domain is called defective.
        out_features: 2, as a linear layer's.
    """

    out_features = 2

    def __init__(self, feature_dim: int, domains: int) -> None:
        super().__init__()
        self.rows: Tensor
        self.threshold: Tensor
        self.register_buffer("rows", torch.zeros(0, feature_dim))
        self.register_buffer("threshold", torch.ones(domains))

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        if f"{prefix}rows" in state:  # as many as were remembered
            self.rows = torch.empty_like(state[f"{prefix}rows"])
        super()._load_from_state_dict(state, prefix, *rest)

    @torch.no_grad()
    def distances(self, cells: Tensor, allowed: Tensor | None = None) -> Tensor:
        """Returns the Euclidean distance of each cell to the nearest remembered one, float32 `[N, T]`.

        Args:
            cells: float32 `[N, T, D]`.
            allowed: bool `[M]`, of the remembered cells that count; None: all.
        """
        rows = self.rows if allowed is None else self.rows[allowed]
        flat = cells.flatten(0, 1)
        found = [torch.cdist(part, rows).amin(dim=1) for part in flat.split(_AT_ONCE)]
        return torch.cat(found).reshape(cells.shape[:2])

    def maps(self, cells: Tensor, domains: Tensor) -> Tensor:
        """Returns log(distance / threshold) of each cell, float32 `[N, T]`: above 0 it is called a defect."""
        return (self.distances(cells).clamp_min(LEAST_DISTANCE) / self.threshold[domains][:, None]).log()


def logits_of(maps: Tensor) -> Tensor:
    """Returns logits of good and defective `[N, 2]` of maps `[N, T]`."""
    worst = maps.amax(dim=1)
    return torch.stack([torch.zeros_like(worst), worst], dim=1)


def least_images(alpha: float) -> int:
    """Returns how many images a threshold at this rate of false alarms needs.

    >>> least_images(0.1)
    9
    """
    return int(np.ceil(1 / alpha - 1 - _EDGE))


def conformal_threshold(scores: NDArray[np.floating], alpha: float) -> float:
    """Returns the smallest threshold above which a new good image scores with a probability of at most `alpha`.

    The ceil((n + 1)(1 - alpha))-th smallest of the n scores: a score above it has a conformal p-value,
    (1 + number of held-out scores at least as high) / (n + 1), of at most alpha (Vovk, Gammerman & Shafer, 2005;
    Bates, Candes, Lei, Romano & Sesia, Annals of Statistics 2023, https://arxiv.org/abs/2104.08279). It holds in the
    mean over draws of the held-out images, if the new good image is exchangeable with them: of the same domain, and
    neither trained on nor in the memory. Infinite where n < 1 / alpha - 1: so few images cannot bear that rate.

    Args:
        scores: `[n]`, of held-out good images.
        alpha: the false-alarm rate that is promised [share], above 0 and below 1.

    >>> conformal_threshold(np.arange(19.0), 0.1)
    17.0
    >>> conformal_threshold(np.arange(8.0), 0.1)
    inf
    """
    assert 0 < alpha < 1, f"alpha is {alpha}"
    place = int(np.ceil((len(scores) + 1) * (1 - alpha) - _EDGE))
    return float(np.sort(scores)[place - 1]) if place <= len(scores) else float("inf")

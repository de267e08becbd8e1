"""M3SDA: the moments of every source and of the target are drawn together, pair by pair. Made for several sources.

Peng et al., Moment Matching for Multi-Source Domain Adaptation, ICCV 2019, https://arxiv.org/abs/1812.01754, equation
2: MD^2 = sum_{k=1}^{2} ( 1/N sum_i ||E[s_i^k] - E[t^k]||_2 + (N choose 2)^-1 sum_{i<j} ||E[s_i^k] - E[s_j^k]||_2 ),
powers taken element by element. With one source the second sum is empty. Differs: one head for all sources (the paper
has one a source and averages them), which leaves out its variant M3SDA-beta.
"""

from itertools import combinations
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Model, Shape
from isthmus.adapt.predictions import full_precision, source_loss
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """Options of M3SDA."""

    weight: float = Field(0.03, ge=0, description="of the moment distance; 0.1 cost accuracy on both development pairs")
    moments: int = Field(2, ge=1, le=4, description="the highest power k")

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Adaptation(self.weight, self.moments)


class Adaptation(Method):
    """Source cross-entropy plus the moment distance among sources and target."""

    optimises: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, weight: float, moments: int) -> None:
        super().__init__()
        self.weight = weight
        self.moments = moments

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns source cross-entropy and moment distance."""
        source, target = model(batch.inputs, batch.domains).split(batch.source_count)
        numbers = batch.domains[: batch.source_count]
        sources = [source.features[numbers == number] for number in numbers.unique()]
        return {
            "source": source_loss(source.logits, batch),
            "moments": self.weight * moment_distance(sources, target.features, self.moments),
        }


def moment_distance(sources: list[Tensor], target: Tensor, moments: int) -> Tensor:
    """Returns MD^2 of the sources' features `[n_i, B]` and the target's `[n, B]`."""
    with torch.autocast(target.device.type, enabled=False):
        domains = [full_precision(rows) for rows in (*sources, target)]
        parts = []
        for power in range(1, moments + 1):
            *means, aim = [rows.pow(power).mean(0) for rows in domains]
            parts.append(_mean_norm([mean - aim for mean in means]))
            if len(means) > 1:
                parts.append(_mean_norm([first - second for first, second in combinations(means, 2)]))
        return torch.stack(parts).sum()


def _mean_norm(differences: list[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack(differences), dim=1).mean()

"""DeepJDOT: an optimal transport plan couples source and target rows by features and classes together.

Damodaran et al., DeepJDOT: Deep Joint Distribution Optimal Transport for Unsupervised Domain Adaptation, ECCV 2018,
https://arxiv.org/abs/1803.10081, equations 6 and 7: cost_ij = alpha ||f_i - f_j||^2 + lambda L(y_i, g_j), L the
cross-entropy; the plan gamma minimises sum gamma cost with uniform marginals and is held fixed while the network
minimises the same sum. Differs: the plan is Sinkhorn's (Cuturi, NeurIPS 2013, https://arxiv.org/abs/1306.0895),
iterated on logarithms in float64, since POT's exact solver costs an import of 3.6 s and an extra dependency for a 64 x
64 problem. With the regularisation here a source row is coupled with about 16 of 64 target rows, not with one.
"""

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from isthmus.adapt import Method, MethodConfig, Model, Shape
from isthmus.adapt.predictions import full_precision, source_loss
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """Options of DeepJDOT."""

    feature_weight: float = Field(
        0.001, ge=0, description="alpha, of the squared distance of features; as in the paper"
    )
    label_weight: float = Field(
        0.1,
        ge=0,
        description="lambda, of the cross-entropy with the coupled source label; 1.0 fixed the first steps' errors:"
        " seeds from .61 to .86 on industrial",
    )
    regularisation: float = Field(0.05, gt=0, description="of the plan's entropy [share of the mean cost]")
    iterations: int = Field(50, ge=1, description="of Sinkhorn's scaling")

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Adaptation(self.feature_weight, self.label_weight, self.regularisation, self.iterations)


class Adaptation(Method):
    """Source cross-entropy plus the cost of the transport plan of the batch."""

    optimises: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, feature_weight: float, label_weight: float, regularisation: float, iterations: int) -> None:
        super().__init__()
        self.feature_weight, self.label_weight = feature_weight, label_weight
        self.regularisation, self.iterations = regularisation, iterations

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns source cross-entropy and transport cost."""
        source, target = model(batch.inputs, batch.domains).split(batch.source_count)
        with torch.autocast(batch.inputs.device.type, enabled=False):
            distance = pair_distances(full_precision(source.features), full_precision(target.features))
            shares = batch.label_shares(target.logits.shape[1])  # `[m, K]`
            confusion = -shares.to(distance.dtype) @ functional.log_softmax(full_precision(target.logits), dim=1).T
            cost = self.feature_weight * distance + self.label_weight * confusion
            plan = transport_plan(cost, self.regularisation, self.iterations)
            transport = (plan * cost).sum()
        return {"source": source_loss(source.logits, batch), "transport": transport}


def pair_distances(source: Tensor, target: Tensor) -> Tensor:
    """Returns ||s_i - t_j||^2, `[m, n]`, never negative."""
    squared = source.square().sum(1)[:, None] + target.square().sum(1)[None, :] - 2.0 * source @ target.T
    return squared.clamp_min(0.0)


@torch.no_grad()
def transport_plan(cost: Tensor, regularisation: float, iterations: int) -> Tensor:
    """Returns the entropic transport plan of uniform marginals, dtype of `cost`, `[m, n]`, sum 1.

    Args:
        cost: `[m, n]`, m and n may differ.
        regularisation: [share of the mean cost].
        iterations: of the scaling; columns are met exactly, rows nearly.
    """
    m, n = cost.shape
    exact = cost.double()
    scale = exact.mean() * regularisation
    kernel = -exact / torch.where(scale > 0, scale, torch.ones_like(scale))  # no cost anywhere: any plan is right
    columns = torch.zeros(n, dtype=torch.float64, device=cost.device)
    for _ in range(iterations):
        rows = -math.log(m) - torch.logsumexp(kernel + columns, dim=1)
        columns = -math.log(n) - torch.logsumexp(kernel + rows[:, None], dim=0)
    return torch.exp(kernel + rows[:, None] + columns).to(cost.dtype)

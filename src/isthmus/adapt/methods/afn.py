"""AFN: features of both domains grow in norm, step by step, towards where source features are easy to tell apart.

Xu, Li, Yang, Lin, Larger Norm More Transferable: An Adaptive Feature Norm Approach for Unsupervised Domain Adaptation,
ICCV 2019, https://arxiv.org/abs/1811.07456, the stepwise variant, equation 6: mean over rows of (||f|| -
(||f||_detached + r))^2. Its value is always r^2, its gradient is -2 r times the norm's: what it does is seen in the
features, not in the curve. Differs: on the bottleneck with its BatchNorm, so the norm grows through BatchNorm's scale;
each domain weighs half.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Model, Shape
from isthmus.adapt.predictions import full_precision, source_loss
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """Options of AFN."""

    weight: float = Field(
        0.01, ge=0, description="of the norm loss; the paper's 0.05 cost accuracy on both development pairs"
    )
    step: float = Field(1.0, gt=0, description="r, increase of each feature norm per step")

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Adaptation(self.weight, self.step)


class Adaptation(Method):
    """Source cross-entropy plus the stepwise norm loss of both domains."""

    optimises: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, weight: float, step: float) -> None:
        super().__init__()
        self.weight = weight
        self.step = step

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns source cross-entropy and norm loss."""
        source, target = model(batch.inputs, batch.domains).split(batch.source_count)
        both = (norm_loss(source.features, self.step) + norm_loss(target.features, self.step)) / 2.0
        return {"source": source_loss(source.logits, batch), "norm": self.weight * both}


def norm_loss(features: Tensor, step: float) -> Tensor:
    """Returns the mean of (||f|| - (||f||_detached + step))^2 over features `[N, B]`; zero rows get no gradient."""
    norms = torch.linalg.vector_norm(full_precision(features), dim=1)
    return (norms - (norms.detach() + step)).square().mean()

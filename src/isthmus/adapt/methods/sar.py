"""SAR: Tent on reliable rows only, towards flat minima, with a way back.

Niu et al., Towards Stable Test-Time Adaptation in Dynamic Wild World, ICLR 2023, https://arxiv.org/abs/2302.12400,
algorithm 1: rows whose entropy is under E0 = 0.4 ln K (equation 2); sharpness-aware step at w + rho g / ||g||
(equations 3 to 5; Foret et al., ICLR 2021), where rows are filtered again; the norms are reset when a moving average of
the entropy falls under e0. Differs: e0 is a share of ln K (the paper's 0.2 stands for K = 1000, 0.029 ln K; with three
classes 0.2 is an ordinary confident model); all LayerNorms are tuned (the paper leaves a ViT's last blocks alone).
"""

import math
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Model, Session, Shape
from isthmus.adapt.layer_norms import LayerNormTuner, require_layer_norms
from isthmus.adapt.predictions import entropy, source_loss
from isthmus.data.batch import Batch

_TINY = 1e-12  # a gradient of zero has no direction


class Config(MethodConfig):
    """Options of SAR."""

    rate: float = Field(1e-3, gt=0, description="learning rate of SGD")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    margin: float = Field(0.4, gt=0, le=1, description="E0, rows with more entropy are left out [share of ln K]")
    radius: float = Field(0.05, ge=0, description="rho, of the sharpness-aware step")
    recovery: float = Field(0.029, ge=0, le=1, description="e0, reset below this moving entropy [share of ln K]")

    def build(self, shape: Shape) -> Method:
        """Returns the method with thresholds for this number of classes."""
        most = math.log(shape.classes)
        return Adaptation(self.rate, self.momentum, self.margin * most, self.radius, self.recovery * most)


class Adaptation(Method):
    """Trains on source rows alone; `adapt` tunes LayerNorm on reliable target rows."""

    needs: ClassVar[Literal["features", "images"]] = "images"
    optimises: ClassVar[frozenset[str]] = frozenset({"entropy"})
    adapts: ClassVar[bool] = True

    def __init__(self, rate: float, momentum: float, margin: float, radius: float, recovery: float) -> None:
        super().__init__()
        self.rate, self.momentum = rate, momentum
        self.margin, self.radius, self.recovery = margin, radius, recovery

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns the cross-entropy of the source rows."""
        rows = slice(0, batch.source_count)
        outputs = model(batch.inputs[rows], batch.domains[rows])
        return {"source": source_loss(outputs.logits, batch)}

    def check(self, model: Model) -> None:
        """Refuses a model without LayerNorm."""
        require_layer_norms(model, "sar")

    def fit(self, session: Session) -> None:
        """Trains by the shared loop."""
        self.check(session.model)
        session.run_shared_loop()

    def adapt(self, model: Model, target: Iterator[Batch]) -> None:
        """Does one pass; a batch without a reliable row is passed over."""
        tuner = LayerNormTuner(model, self.rate, self.momentum)
        average: float | None = None
        for batch in target:
            level = self.sharpness_aware_step(model, batch, tuner)
            if level is None:
                continue
            average = level if average is None else 0.9 * average + 0.1 * level
            if average < self.recovery:
                tuner.reset()
                average = None

    def sharpness_aware_step(self, model: Model, batch: Batch, tuner: LayerNormTuner) -> float | None:
        """Does one step; returns the mean entropy at the moved weights, None where no row is reliable."""
        first = entropy(model(batch.inputs, batch.domains).logits)
        reliable = first.detach() < self.margin
        if not reliable.any():
            return None
        gradients = tuner.gradients(first[reliable].mean())
        start = [parameter.detach().clone() for parameter in tuner.parameters]
        length = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
        with torch.no_grad():
            for parameter, gradient in zip(tuner.parameters, gradients, strict=True):
                parameter.add_(self.radius * gradient / (length + _TINY))
        second = entropy(model(batch.inputs, batch.domains).logits)
        still = reliable & (second.detach() < self.margin)
        level = second[still].mean() if still.any() else None
        sharp = None if level is None else tuner.gradients(level)
        with torch.no_grad():
            for parameter, value in zip(tuner.parameters, start, strict=True):
                parameter.copy_(value)
        if level is None or sharp is None:
            return None
        tuner.step(sharp)
        return float(level.detach())

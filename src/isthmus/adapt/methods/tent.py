"""Tent: at test time, LayerNorm's scale and shift are tuned to make predictions on the target certain.

Wang, Shelhamer, Liu, Olshausen, Darrell, Tent: Fully Test-Time Adaptation by Entropy Minimization, ICLR 2021,
https://arxiv.org/abs/2006.10726, equation 1: H(p) of each target row, averaged. Differs: LayerNorm instead of BatchNorm
(see `layer_norms`), with SGD as SAR has it for transformers; one pass over the target training images on a copy of each
kept epoch. Where the pass leaves a parameter that is not finite, or predicts far fewer classes than before, the norms
are reset: entropy alone is smallest where everything is one class.
"""

import math
from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Model, Session, Shape
from isthmus.adapt.layer_norms import LayerNormTuner, require_layer_norms
from isthmus.adapt.predictions import diversity, entropy, source_loss
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """Options of Tent."""

    rate: float = Field(1e-3, gt=0, description="learning rate of SGD")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    collapse: float = Field(0.5, ge=0, le=1, description="reset below this [share] of the effective classes before")

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Adaptation(self.rate, self.momentum, self.collapse)


class Adaptation(Method):
    """Trains on source rows alone; `adapt` tunes LayerNorm on the target."""

    needs: ClassVar[Literal["features", "images"]] = "images"
    optimises: ClassVar[frozenset[str]] = frozenset({"entropy"})
    adapts: ClassVar[bool] = True

    def __init__(self, rate: float, momentum: float, collapse: float) -> None:
        super().__init__()
        self.rate, self.momentum, self.collapse = rate, momentum, collapse

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns the cross-entropy of the source rows."""
        rows = slice(0, batch.source_count)
        outputs = model(batch.inputs[rows], batch.domains[rows])
        return {"source": source_loss(outputs.logits, batch)}

    def check(self, model: Model) -> None:
        """Refuses a model without LayerNorm."""
        require_layer_norms(model, "tent")

    def fit(self, session: Session) -> None:
        """Trains by the shared loop."""
        self.check(session.model)
        session.run_shared_loop()

    def adapt(self, model: Model, target: Iterator[Batch]) -> None:
        """Minimises entropy in one pass; resets where the model collapsed."""
        tuner = LayerNormTuner(model, self.rate, self.momentum)
        batches = list(target)
        before = effective_classes(model, batches)
        for batch in batches:
            tuner.step(tuner.gradients(entropy(model(batch.inputs, batch.domains).logits).mean()))
        if not effective_classes(model, batches) >= self.collapse * before:  # not: NaN resets too
            tuner.reset()


@torch.no_grad()
def effective_classes(model: Model, batches: list[Batch]) -> float:
    """Returns exp of the entropy of the mean prediction, from 1 (one class) to K (all alike)."""
    logits = torch.cat([model(batch.inputs, batch.domains).logits for batch in batches])
    return math.exp(float(diversity(logits)))

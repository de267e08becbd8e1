"""zscore: source-only on inputs that are standardised by the statistics of their own domain.

The simplest form of statistics alignment (Li et al., Revisiting Batch Normalization For Practical Domain
Adaptation, 2016, moved from the layers to the inputs). No loss sees a target image; only the target's mean and std
are used. Free, and often most of what a stronger method wins.
"""

from typing import ClassVar, Literal

from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Model, Shape
from isthmus.adapt.predictions import source_loss
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """zscore has no options; it always standardises by domain."""

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Adaptation()


class Adaptation(Method):
    """Trains on source rows alone, so that BatchNorm statistics of the bottleneck stay the source's."""

    sees_target: ClassVar[bool] = True
    standardises: ClassVar[Literal["source", "domain"] | None] = "domain"
    remembers: ClassVar[Literal["source", "target"] | None] = "source"

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns the cross-entropy of the source rows."""
        rows = slice(0, batch.source_count)
        outputs = model(batch.inputs[rows], batch.domains[rows])
        return {"source": source_loss(outputs.logits, batch)}

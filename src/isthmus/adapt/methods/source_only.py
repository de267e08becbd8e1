"""Source-only: cross-entropy on labelled source images. The floor that every other method is held against."""

from typing import ClassVar, Literal

from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Model, Shape
from isthmus.adapt.predictions import source_loss
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """Source-only has no options; `standardise` has no effect."""

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Adaptation()


class Adaptation(Method):
    """Never receives a target tensor: even BatchNorm statistics over target rows would contaminate the floor."""

    sees_target: ClassVar[bool] = False
    standardises: ClassVar[Literal["source", "domain"] | None] = "source"
    remembers: ClassVar[Literal["source", "target"] | None] = "source"

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns the cross-entropy of the source rows."""
        outputs = model(batch.inputs, batch.domains)
        return {"source": source_loss(outputs.logits, batch)}

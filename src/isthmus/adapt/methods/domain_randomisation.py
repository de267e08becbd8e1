"""Source images under many looks: their photometric views are trained on beside them.

Tobin, Fong, Ray, Schneider, Zaremba, Abbeel, Domain Randomization for Transferring Deep Neural Networks from Simulation
to the Real World, IROS 2017 (https://arxiv.org/abs/1703.06907). Here real source images are randomised, in brightness,
contrast, colour and polarity (`data/augment/photometric.py`); nothing of the target is used. The views are those that
`embed` made (`views` of the model); with none this is source-only.
"""

from typing import ClassVar

from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Model, Shape
from isthmus.adapt.predictions import source_loss
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """No options of its own."""

    def build(self, shape: Shape) -> "Adaptation":
        """Returns the method."""
        return Adaptation()


class Adaptation(Method):
    """Trains on source images and their views."""

    sees_target: ClassVar[bool] = False
    standardises: ClassVar = "source"
    views: ClassVar[bool] = True

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns the source loss."""
        return {"source": source_loss(model(batch.inputs, batch.domains).logits, batch)}

"""Good images of the target are remembered in place of the source's (task anomaly): what is far from them is a defect.

The target's training images are taken as good without a look at their labels, as on a line where defects are rare: the
memory of PatchCore (Roth et al., CVPR 2022) filled anew. Defects among them stay in the memory, and like ones are then
found less often; the threshold, which is theirs too, gets higher. Models that train leave this method out.
"""

from typing import ClassVar, Literal

from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Model, Shape
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """No options; it always standardises by domain."""

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Adaptation()


class Adaptation(Method):
    """Has nothing to train: see `training/memory.py`."""

    standardises: ClassVar[Literal["source", "domain"] | None] = "domain"
    remembers: ClassVar[Literal["source", "target"] | None] = "target"

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Is never called: a head that remembers has no loss, and other heads leave the method out."""
        raise AssertionError("a memory is filled, not trained")

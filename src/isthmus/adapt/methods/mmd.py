"""MMD: the mean embeddings of source and target features are drawn together under several Gaussian kernels.

Long et al., Learning Transferable Features with Deep Adaptation Networks, ICML 2015,
https://arxiv.org/abs/1502.02791, equations 1 to 4. Differs: the kernel is a plain mean of Gaussians (no optimised
mixture), on the bottleneck alone, and the estimate is the unbiased one over all pairs (see `distances.mk_mmd`) instead
of the linear-time one.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Model, Shape
from isthmus.adapt.distances import mk_mmd
from isthmus.adapt.predictions import source_loss
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """Options of MMD."""

    weight: float = Field(1.0, ge=0, description="of the MMD loss")

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Adaptation(self.weight)


class Adaptation(Method):
    """Source cross-entropy plus the multi-kernel MMD of the bottleneck features."""

    optimises: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns source cross-entropy and MMD."""
        source, target = model(batch.inputs, batch.domains).split(batch.source_count)
        return {
            "source": source_loss(source.logits, batch),
            "mmd": self.weight * mk_mmd(source.features, target.features),
        }

"""MMD: the mean embeddings of source and target features are drawn together under several Gaussian kernels.

Long et al., Learning Transferable Features with Deep Adaptation Networks, ICML 2015,
https://arxiv.org/abs/1502.02791, equations 1 to 4. Differs: the kernel is a plain mean of Gaussians (no optimised
mixture), on the bottleneck alone, and the estimate is the unbiased one over all pairs (see `distances.mk_mmd`) instead
of the linear-time one.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Shape
from isthmus.adapt.alignment import Alignment
from isthmus.adapt.distances import mk_mmd


class Config(MethodConfig):
    """Options of MMD."""

    weight: float = Field(1.0, ge=0, description="of the MMD loss")

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Adaptation(self.weight)


class Adaptation(Alignment):
    """Source cross-entropy plus the multi-kernel MMD of the bottleneck features."""

    term: ClassVar[str] = "mmd"

    def distance(self, source: Tensor, target: Tensor) -> Tensor:
        """Returns the multi-kernel MMD."""
        return mk_mmd(source, target)

"""CORAL: the covariances of source and target features are drawn together.

Sun and Saenko, Deep CORAL: Correlation Alignment for Deep Domain Adaptation, ECCV 2016 workshops,
https://arxiv.org/abs/1607.01719. Differs: it acts on the bottleneck, not on the logits, and covariances are blind to
means, so per-domain standardisation (on by default) aligns those.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Shape
from isthmus.adapt.alignment import Alignment
from isthmus.adapt.distances import coral


class Config(MethodConfig):
    """Options of CORAL."""

    weight: float = Field(
        10.0, ge=0, description="of the CORAL loss; its 1/(4 d^2) makes it small: about 1e-2 at d = 256 before training"
    )

    def build(self, shape: Shape) -> Method:
        """Returns the method."""
        return Adaptation(self.weight)


class Adaptation(Alignment):
    """Source cross-entropy plus the CORAL distance of the bottleneck features."""

    term: ClassVar[str] = "coral"

    def distance(self, source: Tensor, target: Tensor) -> Tensor:
        """Returns the CORAL distance."""
        return coral(source, target)

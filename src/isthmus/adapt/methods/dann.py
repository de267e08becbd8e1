"""DANN: features that a domain discriminator cannot tell apart.

Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 17 (2016),
https://arxiv.org/abs/1505.07818, equations 4, 5, 10 to 14. Differs: the discriminator has two hidden layers, and each
domain weighs half of its loss, also in unequal batches.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Model, Shape
from isthmus.adapt.layers import domain_discriminator, domain_loss, reverse_gradient
from isthmus.adapt.predictions import full_precision, source_loss
from isthmus.adapt.schedules import grl_lambda
from isthmus.core.seeds import derive_seed
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """Options of DANN."""

    weight: float = Field(1.0, ge=0, description="of the domain loss")
    high: float = Field(1.0, ge=0, description="lambda at the end of training; 0.1 when a ViT is fine-tuned in full")
    hidden: int = Field(256, ge=1, description="width of the discriminator")

    def build(self, shape: Shape) -> Method:
        """Returns the method with a discriminator for these sizes."""
        return Adaptation(
            shape.bottleneck, self.hidden, self.weight, self.high, derive_seed(shape.seed, "discriminator")
        )


class Adaptation(Method):
    """Source cross-entropy plus the domain loss behind a gradient reversal."""

    optimises: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, width: int, hidden: int, weight: float, high: float, seed: int) -> None:
        super().__init__()
        self.discriminator = domain_discriminator(width, hidden, seed)
        self.weight = weight
        self.high = high

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns source cross-entropy and domain loss."""
        outputs = model(batch.inputs, batch.domains)
        source, _ = outputs.split(batch.source_count)
        reversed_features = reverse_gradient(outputs.features, grl_lambda(progress, self.high))
        logits = full_precision(self.discriminator(reversed_features).squeeze(1))
        return {
            "source": source_loss(source.logits, batch),
            "domain": self.weight * domain_loss(logits, batch.source_count),
        }

"""BSP: as DANN, but no single direction of the features may become so strong that the other ones do not count.

Chen, Wang, Long, Wang, Transferability vs. Discriminability: Batch Spectral Penalization for Adversarial Domain
Adaptation, ICML 2019, https://proceedings.mlr.press/v97/chen19i.html, equations 6 and 7: beta * sum over the k largest
singular values of sigma^2, of the source and of the target features of a batch. The layer is pytorch-adapt's. The
adversarial base is `dann` with its schedule of the reversal; pytorch-adapt's reversal has a constant weight, which
turns features over before the discriminator has learnt anything. Singular values are taken in float32 also under
autocast (bfloat16 has no decomposition).
"""

from typing import ClassVar

import torch
from pydantic import Field
from pytorch_adapt.layers import BatchSpectralLoss
from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Model, Shape
from isthmus.adapt.layers import domain_discriminator, domain_loss, reverse_gradient
from isthmus.adapt.predictions import full_precision, source_loss
from isthmus.adapt.schedules import grl_lambda
from isthmus.core.seeds import derive_seed
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """Options of BSP."""

    weight: float = Field(1.0, ge=0, description="of the domain loss")
    high: float = Field(1.0, ge=0, description="lambda at the end of training; 0.1 when a ViT is fine-tuned in full")
    hidden: int = Field(256, ge=1, description="width of the discriminator")
    spectral_weight: float = Field(1e-4, ge=0, description="beta, of the squared singular values; as in the paper")
    values: int = Field(
        1, ge=1, description="k, how many of the largest singular values are penalised; as in the paper"
    )

    def build(self, shape: Shape) -> Method:
        """Returns the method with a discriminator for these sizes."""
        return Adaptation(self, shape.bottleneck, derive_seed(shape.seed, "discriminator"))


class Adaptation(Method):
    """Source cross-entropy, the domain loss behind a gradient reversal, and the spectral penalty."""

    optimises: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: Config, width: int, seed: int) -> None:
        super().__init__()
        self.config = config
        self.discriminator = domain_discriminator(width, config.hidden, seed)
        self.penalty = BatchSpectralLoss(k=config.values)

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns source cross-entropy, domain loss and spectral penalty."""
        outputs = model(batch.inputs, batch.domains)
        source, target = outputs.split(batch.source_count)
        reversed_features = reverse_gradient(outputs.features, grl_lambda(progress, self.config.high))
        logits = full_precision(self.discriminator(reversed_features).squeeze(1))
        with torch.autocast(batch.inputs.device.type, enabled=False):
            strongest = self.penalty(full_precision(source.features)) + self.penalty(full_precision(target.features))
        return {
            "source": source_loss(source.logits, batch),
            "domain": self.config.weight * domain_loss(logits, batch.source_count),
            "spectral": self.config.spectral_weight * strongest,
        }

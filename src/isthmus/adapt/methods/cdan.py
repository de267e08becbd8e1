"""CDAN: a domain discriminator that sees features together with the classes they are taken for.

Long, Cao, Wang, Jordan, Conditional Adversarial Domain Adaptation, NeurIPS 2018, https://arxiv.org/abs/1705.10667: the
multilinear map T(f, g) = f (x) g (equation 4), the random map (R_f f * R_g g) / sqrt(d) where f (x) g is wider than
4096 (equation 6; R_f, R_g standard normal, drawn once), and with `entropy: true` the weights w(H) = 1 + exp(-H)
(CDAN+E, equation 8). Differs: g and the weights are detached (the discriminator's gradient through the classifier's own
answers turns classes over), the weights are normalised within each domain, and each domain weighs half, as in `dann`.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from isthmus.adapt import Method, MethodConfig, Model, Shape
from isthmus.adapt.layers import domain_discriminator, reverse_gradient
from isthmus.adapt.predictions import entropy, full_precision, probabilities, source_loss
from isthmus.adapt.schedules import grl_lambda
from isthmus.core.seeds import derive_seed
from isthmus.data.batch import Batch

WIDEST = 4096  # of f (x) g; the paper's threshold for the random map


class Config(MethodConfig):
    """Options of CDAN."""

    weight: float = Field(1.0, ge=0, description="of the domain loss")
    high: float = Field(1.0, ge=0, description="lambda at the end of training; 0.1 when a ViT is fine-tuned in full")
    hidden: int = Field(256, ge=1, description="width of the discriminator")
    entropy: bool = Field(True, description="CDAN+E: rows with confident predictions weigh more")
    random_width: int = Field(1024, ge=1, description="d, width of the random map where classes x bottleneck > 4096")

    def build(self, shape: Shape) -> Method:
        """Returns the method with a discriminator, and a random map if it is needed, for these sizes."""
        seed = derive_seed(shape.seed, "discriminator")
        return Adaptation(
            shape.bottleneck, shape.classes, self.hidden, self.random_width, self.weight, self.high, self.entropy, seed
        )


class Adaptation(Method):
    """Source cross-entropy plus the domain loss of the joint variable behind a gradient reversal."""

    optimises: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        width: int,
        classes: int,
        hidden: int,
        random_width: int,
        weight: float,
        high: float,
        by_entropy: bool,
        seed: int,
    ) -> None:
        super().__init__()
        self.weight, self.high, self.by_entropy = weight, high, by_entropy
        self.random = width * classes > WIDEST
        generator = torch.Generator().manual_seed(derive_seed(seed, "random map"))
        drawn = random_width if self.random else 0
        self.feature_map: Tensor
        self.class_map: Tensor
        self.register_buffer("feature_map", torch.randn(width, drawn, generator=generator))
        self.register_buffer("class_map", torch.randn(classes, drawn, generator=generator))
        self.discriminator = domain_discriminator(random_width if self.random else width * classes, hidden, seed)

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns source cross-entropy and domain loss."""
        outputs = model(batch.inputs, batch.domains)
        source, _ = outputs.split(batch.source_count)
        answers = outputs.logits.detach()
        features = reverse_gradient(full_precision(outputs.features), grl_lambda(progress, self.high))
        logits = full_precision(self.discriminator(self.joint(features, probabilities(answers))).squeeze(1))
        domain = torch.zeros_like(logits)
        domain[: batch.source_count] = 1.0
        each = functional.binary_cross_entropy_with_logits(logits, domain, reduction="none")
        certainty = 1.0 + torch.exp(-entropy(answers)) if self.by_entropy else torch.ones_like(each)
        weighted = each * certainty
        halves = [
            weighted[rows].sum() / certainty[rows].sum()
            for rows in (slice(0, batch.source_count), slice(batch.source_count, len(each)))
        ]
        return {
            "source": source_loss(source.logits, batch),
            "domain": self.weight * (halves[0] + halves[1]) / 2.0,
        }

    def joint(self, features: Tensor, classes: Tensor) -> Tensor:
        """Returns T(f, g), `[N, B K]` or `[N, d]`, of features `[N, B]` and probabilities `[N, K]`."""
        if not self.random:
            return (features[:, :, None] * classes[:, None, :]).flatten(1)
        width = self.feature_map.shape[1]
        return (features @ self.feature_map) * (classes @ self.class_map) / width**0.5

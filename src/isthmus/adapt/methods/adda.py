"""ADDA: an encoder of the target's own that a domain discriminator takes for the source's.

Tzeng, Hoffman, Saenko, Darrell, Adversarial Discriminative Domain Adaptation, CVPR 2017,
https://arxiv.org/abs/1702.05464, equations 8 and 9. Phase one trains encoder and head on the source. Phase two freezes
a copy of the encoder for the source, trains the discriminator to tell its features from the target encoder's, and the
target encoder with inverted labels; the head stays. On cached features the encoders are bottlenecks over the same
frozen backbone. Differs: the served model has the target's encoder alone, for source images too, so what it keeps on
the source is what that encoder keeps; one learning-rate course spans both phases.
"""

import copy
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from isthmus.adapt import Method, MethodConfig, Model, Session, Shape
from isthmus.adapt.alternating import minimise, own_optimiser, require_encoder
from isthmus.adapt.layers import domain_discriminator
from isthmus.adapt.predictions import full_precision, source_loss
from isthmus.core.seeds import derive_seed
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """Options of ADDA."""

    source_share: float = Field(0.5, gt=0, lt=1, description="phase one [share of all epochs]")
    weight: float = Field(0.1, ge=0, description="of the target encoder's adversarial loss")
    hidden: int = Field(256, ge=1, description="width of the discriminator")

    def build(self, shape: Shape) -> Method:
        """Returns the method with a discriminator for these sizes."""
        seed = derive_seed(shape.seed, "discriminator")
        return Adaptation(shape.bottleneck, self.hidden, self.source_share, self.weight, seed)


class Adaptation(Method):
    """Phase one: source cross-entropy. Phase two: discriminator and target encoder take turns."""

    optimises: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, width: int, hidden: int, source_share: float, weight: float, seed: int) -> None:
        super().__init__()
        self.discriminator = domain_discriminator(width, hidden, seed)
        self.source_share = source_share
        self.weight = weight
        self.copied: Tensor
        self.register_buffer("copied", torch.zeros((), dtype=torch.bool))

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns phase one's loss, the cross-entropy of the source rows."""
        rows = slice(0, batch.source_count)
        outputs = model(batch.inputs[rows], batch.domains[rows])
        return {"source": source_loss(outputs.logits, batch)}

    def check(self, model: Model) -> None:
        """Refuses a model in which nothing trains before the head."""
        require_encoder(model, "adda")

    def fit(self, session: Session) -> None:
        """Trains both phases. Which one an epoch belongs to depends on progress alone, so a resumed run agrees."""
        self.check(session.model)
        model, like = session.model, session.optimiser
        own = own_optimiser({"method": self.discriminator.parameters()}, like)
        encoder = SourceEncoder(model)
        session.remember("adda_discriminator", own)
        session.remember("adda_source_encoder", encoder)
        for _ in session.epochs():
            adapting = session.progress >= self.source_share
            if adapting and not self.copied:
                encoder.take_over(model)
                self.copied.fill_(True)
            for batch in session.batches():
                if adapting:
                    told = self.discriminator_loss(model, encoder, batch)
                    minimise(told, own, like, session.clip)
                    session.step({"adversarial": self.target_loss(model, batch), "discriminator": told.detach()})
                else:
                    session.step(self.losses(model, batch, session.progress))

    def discriminator_loss(self, model: Model, encoder: "SourceEncoder", batch: Batch) -> Tensor:
        """Returns the discriminator's loss; no gradient reaches an encoder. Each domain weighs half."""
        count = batch.source_count
        with torch.no_grad():
            source = encoder(batch.inputs[:count], batch.domains[:count])
            target = model(batch.inputs[count:], batch.domains[count:]).features
        source_logits, target_logits = (full_precision(self.discriminator(rows)) for rows in (source, target))
        return (functional.softplus(-source_logits).mean() + functional.softplus(target_logits).mean()) / 2.0

    def target_loss(self, model: Model, batch: Batch) -> Tensor:
        """Returns the target encoder's loss, inverted labels; the discriminator and the head get no gradient."""
        count = batch.source_count
        features = model(batch.inputs[count:], batch.domains[count:]).features
        still = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        logits: Tensor = torch.func.functional_call(self.discriminator, still, (features,))
        return self.weight * functional.softplus(-full_precision(logits)).mean()


class SourceEncoder(nn.Module):
    """A frozen copy of backbone and bottleneck; it always answers as in evaluation."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(model.backbone).requires_grad_(False)
        self.bottleneck = copy.deepcopy(model.bottleneck).requires_grad_(False)
        self.eval()

    def take_over(self, model: Model) -> None:
        """Takes the model's present weights and statistics."""
        self.backbone.load_state_dict(model.backbone.state_dict())
        self.bottleneck.load_state_dict(model.bottleneck.state_dict())

    def forward(self, inputs: Tensor, domains: Tensor) -> Tensor:
        """Returns features `[N, B]`."""
        features: Tensor = self.bottleneck(self.backbone(inputs, domains))
        return features

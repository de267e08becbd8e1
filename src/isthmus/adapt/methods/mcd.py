"""MCD: two heads disagree as much as they can on the target; the encoder leaves them nothing to disagree on.

Saito, Watanabe, Ushiku, Harada, Maximum Classifier Discrepancy for Unsupervised Domain Adaptation, CVPR 2018,
https://arxiv.org/abs/1712.02560, section 3.3. Three steps take turns on each batch: A (all parts) minimises both heads'
source cross-entropy; B (heads, encoder fixed) minimises source cross-entropy minus the discrepancy d = mean |p_1 - p_2|
on the target (equations 9, 10); C (encoder, heads fixed), n times, minimises d. Source and target go through the
encoder one after the other, as in the authors' code: normalised in one batch, the target as a whole moves to where both
heads say the same class (docs/log.md). Differs: the served model answers by the first head alone; heads are linear.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from isthmus.adapt import Method, MethodConfig, Model, Session, Shape
from isthmus.adapt.alternating import minimise, own_optimiser
from isthmus.adapt.predictions import probabilities, source_loss
from isthmus.core.seeds import derive_seed
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """Options of MCD."""

    weight: float = Field(1.0, ge=0, description="of the discrepancy")
    encoder_steps: int = Field(4, ge=1, description="n, how often step C is done for each batch")

    def build(self, shape: Shape) -> Method:
        """Returns the method with a second head."""
        seed = derive_seed(shape.seed, "second head")
        return Adaptation(shape.bottleneck, shape.classes, self.weight, self.encoder_steps, seed)


class Adaptation(Method):
    """Alternating steps over two heads and the encoder (backbone and bottleneck)."""

    optimises: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, width: int, classes: int, weight: float, encoder_steps: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.second_head = nn.Linear(width, classes)
        self.weight = weight
        self.encoder_steps = encoder_steps

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns the source cross-entropy of both heads: step A."""
        count = batch.source_count
        source = model(batch.inputs[:count], batch.domains[:count])
        second = self.second_head(source.features)
        return {
            "source": source_loss(source.logits, batch),
            "second": source_loss(second, batch),
        }

    def fit(self, session: Session) -> None:
        """Trains by turns; C's discrepancy before its last step is noted beside A's losses."""
        model, like = session.model, session.optimiser
        heads = own_optimiser({"head": model.head.parameters(), "method": self.second_head.parameters()}, like)
        parts = {"backbone": _trained(model.backbone), "bottleneck": _trained(model.bottleneck)}
        encoder = own_optimiser(parts, like)
        session.remember("mcd_heads", heads)
        session.remember("mcd_encoder", encoder)
        for _ in session.epochs():
            for batch in session.batches():
                minimise(self.heads_loss(model, batch), heads, like)
                for _ in range(self.encoder_steps):
                    apart = self.encoder_loss(model, batch)
                    minimise(apart, encoder, like)
                session.step(self.losses(model, batch, session.progress) | {"discrepancy": apart.detach()})

    def heads_loss(self, model: Model, batch: Batch) -> Tensor:
        """Returns step B's loss: right on the source, apart on the target; no gradient reaches the encoder."""
        count = batch.source_count
        with torch.no_grad():
            source = model(batch.inputs[:count], batch.domains[:count]).features
            target = model(batch.inputs[count:], batch.domains[count:]).features
        right = source_loss(model.head(source), batch) + source_loss(self.second_head(source), batch)
        return right - self.weight * discrepancy(model.head(target), self.second_head(target))

    def encoder_loss(self, model: Model, batch: Batch) -> Tensor:
        """Returns step C's loss: the weighted discrepancy on the target."""
        count = batch.source_count
        target = model(batch.inputs[count:], batch.domains[count:])
        return self.weight * discrepancy(target.logits, self.second_head(target.features))


def discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Returns the mean absolute difference of the probabilities of two sets of logits `[N, K]`."""
    return (probabilities(first) - probabilities(second)).abs().mean()


def _trained(part: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in part.parameters() if parameter.requires_grad]

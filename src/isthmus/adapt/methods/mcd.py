"""MCD: two heads disagree as much as they can on the target; the encoder leaves them nothing to disagree on.

Saito, Watanabe, Ushiku, Harada, Maximum Classifier Discrepancy for Unsupervised Domain Adaptation, CVPR 2018,
https://arxiv.org/abs/1712.02560, section 3.3. Three steps take turns on each batch: A (all parts) minimises both heads'
source cross-entropy; B (heads, encoder fixed) minimises source cross-entropy minus the discrepancy d = mean |p_1 - p_2|
on the target (equations 9, 10); C (encoder, heads fixed), n times, minimises d. Differs: the served model answers by
the first head alone; heads are linear.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Model, Session, Shape
from isthmus.adapt.alternating import require_encoder
from isthmus.adapt.predictions import probabilities
from isthmus.adapt.two_heads import apart, both_right, new_head, right_and_apart, train_by_turns
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
        self.second_head = new_head(width, classes, seed)
        self.weight = weight
        self.encoder_steps = encoder_steps

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns the source cross-entropy of both heads: step A."""
        return both_right(model, self.second_head, batch)

    def check(self, model: Model) -> None:
        """Refuses a model in which nothing trains before the head."""
        require_encoder(model, "mcd")

    def fit(self, session: Session) -> None:
        """Trains by turns."""
        self.check(session.model)
        turns = (self.heads_loss, self.encoder_loss, self.encoder_steps)
        train_by_turns(session, self.second_head, *turns, one_optimiser=False)

    def heads_loss(self, model: Model, batch: Batch) -> Tensor:
        """Returns step B's loss."""
        return right_and_apart(model, self.second_head, batch, self.weight, discrepancy)

    def encoder_loss(self, model: Model, batch: Batch) -> Tensor:
        """Returns step C's loss."""
        return apart(model, self.second_head, batch, self.weight, discrepancy)


def discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Returns the mean absolute difference of the probabilities of two sets of logits `[N, K]`."""
    return (probabilities(first) - probabilities(second)).abs().mean()

"""SWD: as MCD, but the disagreement of the two heads is a distance of distributions, not of the answers row by row.

Lee, Batra, Baig, Ulbricht, Sliced Wasserstein Discrepancy for Unsupervised Domain Adaptation, CVPR 2019,
https://arxiv.org/abs/1903.04064, equations 3 and 7, algorithm 1: probabilities of both heads are projected on random
directions, sorted along each, and the squared differences averaged. The layer is pytorch-adapt's. Differs from the
paper as `mcd` does. Guards: pytorch-adapt 0.0.81 takes a number of directions and uses 128 all the same, and draws them
in float32 whatever it is given.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from pydantic import Field
from pytorch_adapt.layers import SlicedWasserstein
from torch import Tensor

from isthmus.adapt import Method, MethodConfig, Model, Session, Shape
from isthmus.adapt.alternating import require_encoder
from isthmus.adapt.predictions import probabilities
from isthmus.adapt.two_heads import apart, both_right, new_head, right_and_apart, train_by_turns
from isthmus.core.seeds import derive_seed
from isthmus.data.batch import Batch


class Config(MethodConfig):
    """Options of SWD."""

    weight: float = Field(1.0, ge=0, description="of the discrepancy")
    directions: int = Field(128, ge=1, description="random directions that probabilities are projected on")
    encoder_steps: int = Field(4, ge=1, description="n, how often the encoder's step is done for each batch")

    def build(self, shape: Shape) -> Method:
        """Returns the method with a second head."""
        seed = derive_seed(shape.seed, "second head")
        return Adaptation(shape.bottleneck, shape.classes, self.weight, self.directions, self.encoder_steps, seed)


class Adaptation(Method):
    """Alternating steps over two heads and the encoder (backbone and bottleneck)."""

    optimises: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, width: int, classes: int, weight: float, directions: int, encoder_steps: int, seed: int) -> None:
        super().__init__()
        self.second_head = new_head(width, classes, seed)
        self.weight = weight
        self.encoder_steps = encoder_steps
        self.distance = SlicedWasserstein()
        self.distance.m = directions

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns the source cross-entropy of both heads: step A."""
        return both_right(model, self.second_head, batch)

    def check(self, model: Model) -> None:
        """Refuses a model in which nothing trains before the head."""
        require_encoder(model, "swd")

    def fit(self, session: Session) -> None:
        """Trains by turns."""
        self.check(session.model)
        turns = (self.heads_loss, self.encoder_loss, self.encoder_steps)
        train_by_turns(session, self.second_head, *turns, one_optimiser=True)

    def heads_loss(self, model: Model, batch: Batch) -> Tensor:
        """Returns step B's loss."""
        return right_and_apart(model, self.second_head, batch, self.weight, self.discrepancy)

    def encoder_loss(self, model: Model, batch: Batch) -> Tensor:
        """Returns step C's loss."""
        return apart(model, self.second_head, batch, self.weight, self.discrepancy)

    def discrepancy(self, first: Tensor, second: Tensor) -> Tensor:
        """Returns the sliced Wasserstein distance of the probabilities of two sets of logits `[N, K]`."""
        one, other = probabilities(first), probabilities(second)
        with torch.autocast(one.device.type, enabled=False), _drawn_in(one.dtype):
            distance: Tensor = self.distance(one, other)
        return distance


@contextmanager
def _drawn_in(dtype: torch.dtype) -> Iterator[None]:
    """Lets `torch.randn` without a type give this one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)

"""The part that methods share which draw the features of source and target together by a distance."""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from isthmus.adapt import Method, Model
from isthmus.adapt.predictions import source_loss
from isthmus.data.batch import Batch


class Alignment(Method):
    """Source cross-entropy plus a distance of the bottleneck features.

    Attributes:
        term: name of the distance among the losses.

    Args:
        weight: of the distance.
    """

    optimises: ClassVar[frozenset[str]] = frozenset()
    term: ClassVar[str]

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    @abstractmethod
    def distance(self, source: Tensor, target: Tensor) -> Tensor:
        """Returns the distance of features `[S, B]` and `[T, B]`, a scalar."""

    def losses(self, model: Model, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Returns source cross-entropy and distance."""
        source, target = model(batch.inputs, batch.domains).split(batch.source_count)
        distance = self.distance(source.features, target.features)
        return {"source": source_loss(source.logits, batch), self.term: self.weight * distance}

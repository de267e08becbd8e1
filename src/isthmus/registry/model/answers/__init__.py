"""What a registered model answers. One module a task; the folder is the registry. Bundled with every model."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
from numpy.typing import NDArray

from isthmus.data.image import Image
from isthmus.data.kinds import Kind
from isthmus.data.tiles import Tiles
from isthmus.evaluation.shift.membership import Typicality

if TYPE_CHECKING:
    from isthmus.models.trained import TrainedClassifier  # torch: two seconds that the gate and promotion do without

_TYPES = {"string": "object", "double": "float64", "long": "int64", "boolean": "bool"}  # MLflow's -> numpy's
Decode = Callable[[object], Image]  # bytes, path or array -> pixels, within the limits of a call


@dataclass(frozen=True)
class ModelParts:
    """What a model was loaded from.

    Attributes:
        spec: the content of `served.json`.
        target: the domain that it was adapted to.
        fitted: domain -> what the kind learned of it.
        typicality: domain -> what it looks like to the model.
    """

    spec: dict[str, Any]
    classes: list[str]
    target: str
    kind: Kind
    fitted: dict[str, dict[str, Any]]
    tiles: Tiles | None
    typicality: Mapping[str, Typicality]
    classifier: "TrainedClassifier"

    def role(self, domain: str) -> str:
        """Returns whether a domain is the target or a source."""
        return "target" if domain == self.target else "source"

    def predict(self, prepared: NDArray[Any], domain: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Returns how typical each image is of the domain `[N]`, and float64 logits over the domain's temperature."""
        return self.located(prepared, domain)[:2]

    def located(self, prepared: NDArray[Any], domain: str) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Returns what `predict` does, and the maps `[N, T]` of a model that has some."""
        embeddings, logits, maps, _ = self.classifier.predict_all(prepared, domain)
        temperature = self.spec["promise"]["temperature"][self.role(domain)]
        return self.typicality[domain].scores(embeddings), logits.astype("float64") / temperature, maps


class TaskAnswers(ABC):
    """A module here has a final class `Answers(TaskAnswers)`.

    Attributes:
        inputs: columns of the images that make one example; the first is always there.
        at_once: examples that are decoded and predicted together.
    """

    inputs: ClassVar[tuple[str, ...]] = ("image",)
    at_once: ClassVar[int] = 32

    @staticmethod
    @abstractmethod
    def outputs(classes: Sequence[str]) -> dict[str, str]:
        """Returns the columns of an answer, name -> MLflow's type."""

    def empty(self, parts: ModelParts) -> pd.DataFrame:
        """Returns the answer to no example."""
        return pd.DataFrame({n: pd.Series([], dtype=_TYPES[t]) for n, t in self.outputs(parts.classes).items()})

    @abstractmethod
    def prepare(self, parts: ModelParts, example: Sequence[Image], domain: str) -> Any:
        """Returns what `answer` takes of one example.

        Raises:
            DataError: it cannot be of this model's kind.
        """

    @abstractmethod
    def answer(self, parts: ModelParts, prepared: list[Any], domain: str) -> pd.DataFrame:
        """Returns a row an example."""

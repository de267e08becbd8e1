"""How predictions of a task are held against guessing, without target labels. One module a task.

The folder is the registry. `select` uses it; it knows no label of the target.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from isthmus.evaluation.metrics import Predictions
from isthmus.evaluation.selection.choice import OF_CLASSES, Words
from isthmus.evaluation.trained import Samples, Trained


class TaskGuards(ABC):
    """A module here has a final class `Guards(TaskGuards)`.

    Attributes:
        average: the methods whose mean answers, where params.yaml names none; see docs/decisions/0030 and 0031.
        validators: whether scores of `evaluation.validators`, which are of images, say anything of its rows.
        averages: whether several methods can answer together.
        words: what is said of a refused method.
    """

    average: ClassVar[tuple[str, ...]]
    averages: ClassVar[bool] = True
    validators: ClassVar[bool] = True
    words: ClassVar[Words] = OF_CLASSES

    @abstractmethod
    def rows(self, samples: Samples, runs: dict[str, Trained], prepared: Path) -> Samples:
        """Returns the facts of each row of logits: of an image, or of a cell of its grid."""

    @abstractmethod
    def learned(self, predicted: Predictions, labels: Predictions, significance: float) -> tuple[bool, float]:
        """Says whether source validation rows are predicted better than by guessing, and the p-value.

        Args:
            predicted: int64 `[R, N]`, one row a seed.
            labels: int64 `[N]`.
            significance: [p-value].
        """

    @abstractmethod
    def collapsed(self, predicted: Predictions, source_labels: Predictions, classes: int) -> bool:
        """Says whether nearly all of the target gets one class; arguments as of `learned`, of target rows."""

"""How the answers of a task are written down beside the images. One module a task; the folder is the registry."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray

from isthmus.core.config import Config
from isthmus.data.bounds import DEFAULT, Bounds


class AnnotationConfig(Config):
    """What lies beside the images of a task. A module here has `Config(AnnotationConfig)` with its own options.

    Attributes:
        labelled: each image has one class, by its folder or by a table's column `label`.
        masks: each image has a mask, which says the class of each pixel.
        regions: an image may have a mask of where what its class names is; masks of this kind are evaluated alone.
        second: an example is two images of one place, the later one in a file of its own.
        boxes: each image has boxes around its objects, in a file of its own or of many images.
        noun: what lies beside an image, in messages.
        ships_with: section of `models` in the shipped params.yaml that is for this task.
    """

    labelled: ClassVar[bool] = False
    masks: ClassVar[bool] = False
    regions: ClassVar[bool] = False
    second: ClassVar[bool] = False
    boxes: ClassVar[bool] = False
    noun: ClassVar[str] = "mask"
    ships_with: ClassVar[str] = "vit"

    @property
    def cells(self) -> bool:
        """Whether a row of training is a cell of the image's grid."""
        return self.masks or self.boxes

    @property
    def by_place(self) -> bool:
        """Whether features of each cell of the image's grid are needed."""
        return self.cells or self.regions

    @property
    def reads_masks(self) -> bool:
        """Whether files beside the images are read as masks."""
        return self.masks or self.regions

    def class_of(self, written: str, classes: Sequence[str]) -> str:
        """Returns the class that a folder's name or a table's label stands for: itself, unless the task says more."""
        return written

    def learnt(self, classes: list[str]) -> list[str]:
        """Returns the classes of which the source must have images."""
        return classes if self.labelled else []

    @property
    def columns(self) -> list[str]:
        """Columns that a table of this task must have, beside `path` and `domain`."""
        wanted = {"label": self.labelled, "mask": self.masks, "image_b": self.second, "boxes": self.boxes}
        return [name for name, needed in wanted.items() if needed]

    def problem(self, classes: Sequence[str]) -> str:
        """Returns what in these options does not fit the scenario's classes, empty where they do."""
        return ""

    def read(self, path: Path, part: str, classes: Sequence[str], bounds: Bounds = DEFAULT) -> NDArray[Any]:
        """Returns the answer that a file holds, as the task's own module says.

        Raises:
            DataError: it is no answer of this task.
        """
        raise TypeError(f"{type(self).__module__}: a task without files beside its images reads none")

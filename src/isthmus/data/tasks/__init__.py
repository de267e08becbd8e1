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
        second: an example is two images of one place, the later one in a file of its own.
        boxes: each image has boxes around its objects, in a file of its own or of many images.
        noun: what lies beside an image, in messages.
    """

    labelled: ClassVar[bool] = False
    masks: ClassVar[bool] = False
    second: ClassVar[bool] = False
    boxes: ClassVar[bool] = False
    noun: ClassVar[str] = "mask"

    @property
    def cells(self) -> bool:
        """Whether a row of training is a cell of the image's grid."""
        return self.masks or self.boxes

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

"""One class an image: `<domain>/<class>/file`, or a table's column `label`."""

from typing import ClassVar

from isthmus.data.tasks import AnnotationConfig


class Config(AnnotationConfig):
    """Classes need no options."""

    labelled: ClassVar[bool] = True

"""What changed between two images of one place: `<domain>/a/NAME`, `<domain>/b/NAME` and `<domain>/masks/NAME`.

Both images have one size and lie on one grid; the classes are of the change, such as `unchanged` and `changed`.
"""

from typing import ClassVar

from isthmus.data.masks import MaskConfig


class Config(MaskConfig):
    """Values of the masks."""

    second: ClassVar[bool] = True

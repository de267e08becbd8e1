"""The class of each pixel: a mask of the image's own size, `<domain>/masks/NAME` beside `<domain>/images/NAME`."""

from isthmus.data.masks import MaskConfig


class Config(MaskConfig):
    """Values of the masks."""

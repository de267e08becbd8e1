"""Photographs and everything that looks like them: resized and cropped as the model's weights want it, grey or RGB.

8-bit pixels are used as they are. Deeper ones are brought to 8 bit by the 0.5 % and 99.5 % quantiles of their
domain's training images, one range a domain and dtype (`data/imaging/pixels.py`).
"""

from collections import deque
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from isthmus.data.image import Image
from isthmus.data.imaging.pixels import DepthFit, as_seen, centre_box, centre_square, to_eight_bit, with_channels
from isthmus.data.kinds import Fitted, Kind, KindConfig


class Config(KindConfig):
    """Options of natural images."""

    channels: Literal[1, 3] = Field(3, description="1: grey; 3: RGB, grey images repeated")
    crop: float = Field(1.0, gt=0, le=1, description="[share] of the short side that is kept; unset: the weights' own")
    crop_mode: Literal["center", "squash"] = Field(
        "center", description="squash: long images are squeezed to a square; unset: the weights' own"
    )
    interpolation: Literal["bicubic", "bilinear", "lanczos", "nearest"] = Field(
        "bicubic", description="of resizing; unset: the weights' own"
    )

    def build(self) -> "Natural":
        """Returns the kind with these options."""
        return Natural(self.image_size, self.channels, self.crop, self.crop_mode == "squash", self.interpolation)


class Natural(Kind):
    """Resizes and crops; uint8 `[image_size, image_size, channels]`."""

    def __init__(
        self, image_size: int, channels: int, crop: float = 1.0, squash: bool = False, interpolation: str = "bicubic"
    ) -> None:
        self.image_size = image_size
        self.channels = channels
        self.crop = crop
        self.squash = squash
        self.interpolation = interpolation

    def fit(self, images: Iterable[Image]) -> Fitted:
        """Returns the range of deep images, if there are any: `{"range": {dtype: [low, high]}}`."""
        depth = DepthFit()
        deque(depth.watch(map(as_seen, images)), maxlen=0)
        ranges = depth.ranges()
        return {"range": ranges} if ranges else {}

    def learns_from(self, dtype: str, channels: int) -> bool:
        """Returns whether such images are looked at: only deep images have a range to learn."""
        return dtype != "uint8"

    def prepare(self, image: Image, fitted: Fitted) -> NDArray[np.uint8]:
        """Returns the centre of the image, uint8 `[image_size, image_size, channels]`."""
        image = as_seen(image)
        pixels = with_channels(to_eight_bit(image.pixels, fitted.get("range", {}), image.valid), self.channels)
        return centre_square(pixels, self.image_size, self.crop, self.interpolation, self.squash)

    def box(self, image: Image) -> tuple[float, float, float, float]:
        """Returns the centre that is kept; see `Kind`."""
        return centre_box(image.height, image.width, self.image_size, self.crop, self.squash)

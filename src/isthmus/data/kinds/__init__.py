"""Decoded images -> arrays of one shape. One module a kind of imagery; the folder is the registry."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from isthmus.core.config import Config
from isthmus.data.image import Image

Orientation = Literal["none", "mirror", "turns"]  # of an image: as it is, one of two, one of eight
Fitted = dict[str, Any]  # JSON types; what was learnt from one domain's training images


class Kind(ABC):
    """Preprocessing of one kind of imagery. Picklable; the same in a worker, in a stage and in a served model."""

    @abstractmethod
    def fit(self, images: Iterable[Image]) -> Fitted:
        """Returns statistics of one domain's training images, streamed once; `{}` when nothing is fitted."""

    @abstractmethod
    def learns_from(self, dtype: str, channels: int) -> bool:
        """Returns whether `fit` looks at such images, as they are decoded; others are not even decoded for it."""

    @abstractmethod
    def prepare(self, image: Image, fitted: Fitted) -> NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float16]:
        """Returns `[H, W, C]`, the same shape and dtype for every image of a scenario.

        Raises:
            DataError: this image cannot be of this kind (its reason goes to the quarantine list).
        """

    @abstractmethod
    def box(self, image: Image) -> tuple[float, float, float, float]:
        """Returns top, left, bottom, right of what `prepare` shows of an image [pixel]; it may reach beyond it.

        Masks are brought to the prepared square by it (`data/masks.py`).

        Raises:
            DataError: as `prepare`.
        """


class KindConfig(Config):
    """Options that every kind has. A module here has `Config(KindConfig)` with its own beside them."""

    whole_frame: ClassVar[tuple[str, ...]] = ()  # options that a tile, which knows no place in its frame, cannot have
    orientation: ClassVar[Orientation] = "none"  # of training images in full mode, where `augment` names none

    image_size: int = Field(
        154, ge=14, le=2048, description="side of the prepared square [pixel]; unset: that of the model's weights"
    )
    channels: int = Field(3, ge=1, le=64, description="channels of the prepared array")

    def given_whole_frame(self) -> list[str]:
        """Returns the names of the options in use that are about places in a whole frame."""
        return [name for name in self.whole_frame if getattr(self, name)]

    def build(self) -> Kind:
        """Returns the kind with these options. Each module's `Config` says how."""
        raise TypeError(f"{type(self).__module__}: Config has no build()")

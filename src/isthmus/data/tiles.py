"""What a user says of how large frames are cut; `data/preprocess/tiling.py` cuts them.

Apart from the cutting, so that stages that only read the scenario do not depend on the readers.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from isthmus.core.config import Config
from isthmus.data.names import Name


class Tiles(Config):
    """How frames are cut."""

    size: float = Field(gt=0, description="side of a tile [unit]")
    overlap: float = Field(0, ge=0, description="of a tile with its neighbour [unit]; the last of a row may share more")
    unit: Literal["pixel", "mm", "m"] = Field("pixel", description="of size and overlap")
    blocks: int = Field(
        1,
        ge=1,
        description="vertical strips that a frame is cut into, each a group of its own, so that the tiles of one large"
        " scene can be split; no tile lies in two",
    )
    scale: float | dict[Name, float] | None = Field(
        None, description="[unit/pixel], one number or one a domain; none: what each file states (DICOM, GeoTIFF)"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.overlap >= self.size:
            raise ValueError(f"overlap {self.overlap:g} must be smaller than size {self.size:g}")
        scales = list(self.scale.values()) if isinstance(self.scale, dict) else [self.scale]
        if self.unit == "pixel" and self.scale is not None:
            raise ValueError("a scale is the length of a pixel. Set 'unit: mm' or 'unit: m', or remove 'scale'")
        if any(value is not None and value <= 0 for value in scales):
            raise ValueError(f"scale must be above 0 (got {self.scale})")
        return self

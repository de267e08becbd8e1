"""Good or defective, learnt from good images alone: `<domain>/<class>/NAME`, or a table's column `label`.

The first of the two classes is the good one; every other folder or label, such as a kind of defect, is the second. A
mask may say where a defect lies: `<domain>/masks/<class>/NAME`, or the table's column `mask`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from isthmus.core.errors import DataError
from isthmus.data.bounds import DEFAULT, Bounds
from isthmus.data.masks import IGNORED, Mask, one_channel
from isthmus.data.tasks import AnnotationConfig


class Config(AnnotationConfig):
    """Values of the masks."""

    labelled: ClassVar[bool] = True
    regions: ClassVar[bool] = True
    ships_with: ClassVar[str] = "anomaly"

    ignore: int | None = Field(None, description="value of mask pixels that are not scored; none: all are scored")

    def problem(self, classes: Sequence[str]) -> str:
        """Returns what does not fit these classes; see `AnnotationConfig`."""
        if len(classes) != 2:
            return f"classes: task anomaly has two, the good one first, such as [good, defect] (got {len(classes)})"
        return ""

    def class_of(self, written: str, classes: Sequence[str]) -> str:
        """Returns the good class for its own name, and the other one for all else."""
        return written if written == classes[0] else classes[1]

    def learnt(self, classes: list[str]) -> list[str]:
        """Returns the good class: defects are needed for nothing but to evaluate."""
        return classes[:1]

    def read(self, path: Path, part: str, classes: Sequence[str], bounds: Bounds = DEFAULT) -> Mask:
        """Returns a mask as 0 good, 1 defect (whatever is not zero) and `IGNORED`, uint8 `[H, W]`.

        Raises:
            DataError: it cannot be read, or has several channels.
        """
        raw = one_channel(path, part, bounds)
        mask = (raw != 0).astype(np.uint8)
        if self.ignore is not None:
            mask[raw == self.ignore] = IGNORED
        if not np.isfinite(raw).all():
            raise DataError("mask has values that are not numbers. Save it as PNG with 0 where the image is good")
        return mask

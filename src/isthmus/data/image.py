"""One decoded image, before any preprocessing."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Image:
    """Pixels as the file means them, and what the file says of itself.

    Attributes:
        pixels: `[H, W, C]`, in the file's own dtype; float32 where the file itself states a slope and an offset,
            which are applied. Nothing is windowed, inverted, stretched or rounded by a reader.
        mode: what the channels are: `grey`, `rgb`, `bands`, `hu`.
        facts: what preprocessing may need (pixel spacing, band names, nodata, ...); JSON types only, never
            a name, a path or an identifier of a person.
        valid: bool `[H, W]`, False where the file itself says there is no data (nodata, masks), and where a channel is
            no finite number, whoever made the image; None: all valid.
    """

    pixels: NDArray[Any]
    mode: str
    facts: dict[str, Any] = field(default_factory=dict)
    valid: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        """Takes pixels that are no finite number out of `valid`: NaN is how many programs write nodata."""
        if self.pixels.dtype.kind == "f":
            finite = np.isfinite(self.pixels).all(axis=2)
            if not finite.all():
                object.__setattr__(self, "valid", finite if self.valid is None else self.valid & finite)

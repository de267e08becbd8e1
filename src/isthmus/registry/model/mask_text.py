"""Masks as text: PNG in base64, which fits into a table and into JSON."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow


def as_text(mask: NDArray[np.uint8]) -> str:
    """Returns a mask `[H, W]` as PNG in base64."""
    stream = io.BytesIO()
    Pillow.fromarray(mask).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def from_text(text: str) -> NDArray[np.uint8]:
    """Returns the mask `[H, W]` of a PNG in base64."""
    with Pillow.open(io.BytesIO(base64.b64decode(text))) as image:
        return np.asarray(image).astype(np.uint8)

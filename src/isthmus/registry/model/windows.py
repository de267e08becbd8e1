"""Windows over an image of any size, as large as what a model of cells was trained on; they overlap by a quarter."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import DataError
from isthmus.data.image import Box, Image, check_second
from isthmus.data.preprocess.tiling import starts, tile_shape
from isthmus.registry.model.answers import ModelParts

_OVERLAP = 0.25  # [share] of a window's side


class Windows(NamedTuple):
    """An example's windows: where each lies, where its prepared square lies in it, and its prepared pixels.

    `valid` is False where one of its images has no data; None where all have everywhere.
    """

    height: int
    width: int
    valid: NDArray[np.bool_] | None
    boxes: list[Box]
    squares: list[tuple[float, float, float, float]]
    pixels: NDArray[Any]


def windows_of(parts: ModelParts, example: Sequence[Image], domain: str) -> Windows:
    """Returns the windows of one example, of one image or of two of one place.

    Windows that the kind does not take, as those at the rim of a scene that hold no data, are left out.

    Raises:
        DataError: the images do not fit each other, or the kind takes no window.
    """
    first, *later = example
    for other in later:
        check_second(first, other)
    all_boxes = _boxes(parts, first, domain)
    boxes, squares, pixels, refused = [], [], [], DataError("no window")
    for box in all_boxes:
        cuts = [image if len(all_boxes) == 1 else image.cut(box) for image in example]
        try:
            prepared = [parts.kind.prepare(cut, parts.fitted[domain]) for cut in cuts]
        except DataError as error:
            refused = error
            continue
        boxes.append(box)
        squares.append(parts.kind.box(cuts[0]))
        pixels.append(np.concatenate(prepared, axis=2))
    if not boxes:
        raise refused
    known = [image.valid for image in example if image.valid is not None]
    valid = np.logical_and.reduce(known) if known else None
    return Windows(first.height, first.width, valid, boxes, squares, np.stack(pixels))


def _boxes(parts: ModelParts, image: Image, domain: str) -> list[Box]:
    """Returns windows that cover an image, as large as a tile, or as what the kind shows of an image."""
    config = type(parts.kind)
    if parts.tiles is not None:
        height, width = tile_shape(image, parts.tiles, domain)
    elif parts.spec["whole_frame"]:
        return [Box(0, 0, image.height, image.width)]
    else:
        top, left, bottom, right = parts.kind.box(image)
        height, width = round(bottom - top), round(right - left)
    height, width = min(height, image.height), min(width, image.width)
    if height < 1 or width < 1:
        raise DataError(f"image of {image.height} x {image.width} pixels is too small for {config.__name__.lower()}")
    down, across = (max(1, round(length * (1 - _OVERLAP))) for length in (height, width))
    return [
        Box(top, left, height, width)
        for top in starts(image.height, height, down)
        for left in starts(image.width, width, across)
    ]

"""Pictures of boxes: right, wrong and missed ones over an image, told apart by colour and by line."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from isthmus.evaluation.metrics import Reals
from isthmus.evaluation.scoring.boxes import Boxes, Detections, box_iou
from isthmus.report.masks.pictures import SMALL
from isthmus.report.thumbnails import encoded

RIGHT, WRONG, MISSED = (0, 158, 115), (213, 94, 0), (86, 180, 233)  # of Okabe and Ito (2008)
_DASH = 5  # [pixel]
_IOU = 0.5  # [share] from which a box is right


class Verdicts(NamedTuple):
    """Boxes of an image, `[n, 4]` each: answered and right, answered and wrong, true and not found."""

    right: Reals
    wrong: Reals
    missed: Reals


def judged(found: Detections, truth: Boxes, threshold: float) -> Verdicts:
    """Returns which boxes are right at an IoU of .5: by falling score each takes the free true one it overlaps most.

    Args:
        found: highest score first.
        truth: of the same image.
        threshold: [score] from which boxes count.
    """
    free = np.ones(len(truth.classes), np.bool_)
    right = np.zeros(len(found.scores), np.bool_)
    overlaps = box_iou(found.corners, truth.corners)
    shown = found.scores >= threshold
    for place in np.flatnonzero(shown):
        row = np.where(free & (truth.classes == found.classes[place]), overlaps[place], 0.0)
        if len(row) and row.max() >= _IOU:
            right[place], free[row.argmax()] = True, False
    return Verdicts(found.corners[shown & right], found.corners[shown & ~right], truth.corners[free])


def drawn(image: NDArray[np.uint8], boxes: Verdicts, side: int) -> str:
    """Returns an image as a data URI with boxes: right ones whole, wrong ones thick, missed ones dashed.

    Args:
        image: uint8 `[H, W]` or `[H, W, 3]`, a square.
        boxes: in its pixels.
        side: of the picture [pixel].
    """
    scale = side / image.shape[0]
    picture = Image.fromarray(image).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(picture)
    width = 1 if side <= SMALL else 2
    for corners, colour, thick in ((boxes.right, RIGHT, width), (boxes.wrong, WRONG, width + 1)):
        for box in corners * scale:
            pen.rectangle(list(box), outline=colour, width=thick)
    for box in boxes.missed * scale:
        _dashed(pen, box, MISSED, width)
    return encoded(picture, "jpeg", sharp=True)


def _dashed(pen: ImageDraw.ImageDraw, box: Reals, colour: tuple[int, int, int], width: int) -> None:
    left, top, right, bottom = box
    for start in np.arange(left, right, 2 * _DASH):
        end = min(start + _DASH, right)
        for y in (top, bottom):
            pen.line([(start, y), (end, y)], fill=colour, width=width)
    for start in np.arange(top, bottom, 2 * _DASH):
        end = min(start + _DASH, bottom)
        for x in (left, right):
            pen.line([(x, start), (x, end)], fill=colour, width=width)

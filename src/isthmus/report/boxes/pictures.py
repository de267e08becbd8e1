"""Pictures of boxes: right, wrong and missed ones over an image, told apart by colour and by line."""

from collections.abc import Sequence
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from isthmus.evaluation.metrics import Reals
from isthmus.evaluation.scoring.boxes import Boxes, Detections, box_iou
from isthmus.report.masks.pictures import SMALL
from isthmus.report.thumbnails import encoded

RIGHT, WRONG, MISSED = (0, 158, 115), (213, 94, 0), (86, 180, 233)  # of Okabe and Ito (2008)
_DASH = 5  # [pixel]
_IOU = 0.5  # [share] from which a box is right
_LETTERS = 12  # [pixel] of class and score at a box


class Verdicts(NamedTuple):
    """Boxes of an image, `[n, 4]` each: answered and right, answered and wrong, true and not found.

    Attributes:
        right: of the class and place of a true box.
        wrong: of the class and place of none.
        missed: true boxes without an answer.
        labels: what is written at the boxes of each, if anything.
    """

    right: Reals
    wrong: Reals
    missed: Reals
    labels: tuple[list[str], list[str], list[str]] = ([], [], [])


def judged(found: Detections, truth: Boxes, threshold: float, classes: Sequence[str] = ()) -> Verdicts:
    """Returns which boxes are right at an IoU of .5: by falling score each takes the free true one it overlaps most.

    Args:
        found: highest score first.
        truth: of the same image.
        threshold: [score] from which boxes count.
        classes: names by number, to be written beside the scores; none: nothing is written.
    """
    free = np.ones(len(truth.classes), np.bool_)
    right = np.zeros(len(found.scores), np.bool_)
    overlaps = box_iou(found.corners, truth.corners)
    shown = found.scores >= threshold
    for place in np.flatnonzero(shown):
        row = np.where(free & (truth.classes == found.classes[place]), overlaps[place], 0.0)
        if len(row) and row.max() >= _IOU:
            right[place], free[row.argmax()] = True, False
    corners = found.corners[shown & right], found.corners[shown & ~right], truth.corners[free]
    if not classes:
        return Verdicts(*corners)
    answered = [f"{classes[c]} {score:.2f}" for c, score in zip(found.classes, found.scores, strict=True)]
    missed = [classes[c] for c, one in zip(truth.classes, free, strict=True) if one]
    labels = list(compress(answered, shown & right)), list(compress(answered, shown & ~right)), missed
    return Verdicts(*corners, labels)


def drawn(image: NDArray[np.uint8], boxes: Verdicts, side: int) -> str:
    """Returns an image as a data URI with boxes: right ones whole, wrong ones thick, missed ones dashed; with labels.

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
    font = ImageFont.load_default(_LETTERS)
    for corners, colour, labels in zip(boxes[:3], (RIGHT, WRONG, MISSED), boxes.labels, strict=True):
        for box, label in zip(corners * scale, labels, strict=False):  # no labels at all, or one a box
            _written(pen, label, box, side, colour, font)
    return encoded(picture, "jpeg", sharp=True)


def _written(
    pen: ImageDraw.ImageDraw, label: str, box: Reals, side: int, colour: tuple[int, int, int], font: Any
) -> None:
    """Writes on a box's upper edge, inside the picture."""
    wide, tall = pen.textbbox((0, 0), label, font)[2:]
    x, y = max(0.0, min(box[0], side - wide - 2)), max(0.0, box[1] - tall - 2)
    pen.rectangle([x, y, x + wide + 2, y + tall + 2], fill=colour)
    pen.text((x + 1, y), label, (0, 0, 0), font)


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

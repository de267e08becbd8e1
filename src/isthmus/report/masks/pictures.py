"""Pictures of masks: outlines over images and wrong pixels in colour, in tones that colour-blind readers tell apart."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation

from isthmus.data.masks import IGNORED, Mask
from isthmus.report.thumbnails import encoded

LARGE, SMALL = 280, 140  # [pixel] of a picture
TRUE, PREDICTED = (86, 180, 233), (240, 160, 0)  # of outlines: sky blue and orange of Okabe and Ito (2008)
MISSED, WRONG = (0, 114, 178), (213, 94, 0)  # of wrong pixels: blue and vermilion of the same palette
_STRENGTH = 0.8  # [share] of colour in a wrong pixel
_DASH = 6  # [pixel] of a dash, and of a stripe where nothing is scored


class Outline(NamedTuple):
    """A mask whose edges are drawn; a dashed line differs from a whole one without its colour."""

    mask: Mask
    colour: tuple[int, int, int]
    dashed: bool = False


def outlined(image: NDArray[np.uint8], outlines: list[Outline], side: int) -> str:
    """Returns an image as a data URI with the edges between classes drawn on it.

    Args:
        image: uint8 `[H, W]` or `[H, W, 3]`, a square.
        outlines: drawn in this order.
        side: of the picture [pixel].
    """
    shown = _scaled(image, side)
    stripes = _stripes(side)
    for mask, colour, dashed in outlines:
        line = edges(_nearest(mask, side))
        if side > SMALL:
            line = binary_dilation(line, np.ones((2, 2)))
        if dashed:
            line &= stripes
        shown[binary_dilation(line) & ~line] //= 3  # a dark rim: the line is seen on light and on dark images
        shown[line] = colour
    return encoded(Image.fromarray(shown), "jpeg", sharp=True)


def wrong_pixels(image: NDArray[np.uint8], predicted: Mask, truth: Mask, side: int) -> str:
    """Returns the image in grey, with wrong pixels coloured as `wrong_legend` says, striped where none is scored."""
    shown = _scaled(image, side).mean(axis=2, keepdims=True).repeat(3, axis=2) * 0.6 + 80
    predicted, truth = _nearest(predicted, side), _nearest(truth, side)
    wrong = (predicted != truth) & (truth != IGNORED)
    missed = wrong & (truth == 1) & (predicted == 0)
    for here, colour in ((wrong & ~missed, WRONG), (missed, MISSED)):
        shown[here] = shown[here] * (1 - _STRENGTH) + np.array(colour) * _STRENGTH
    shown[(truth == IGNORED) & _stripes(side)] = 235
    return encoded(Image.fromarray(shown.round().clip(0, 255).astype(np.uint8)), "jpeg", sharp=True)


def edges(mask: Mask) -> NDArray[np.bool_]:
    """Returns where the class differs from that of the right or lower neighbour; beside pixels without one is no edge.

    >>> edges(np.array([[0, 0, 1], [0, 0, 1]], np.uint8)).astype(int).tolist()
    [[0, 1, 0], [0, 1, 0]]
    """
    found = np.zeros(mask.shape, np.bool_)
    found[:, :-1] |= _differ(mask[:, :-1], mask[:, 1:])
    found[:-1] |= _differ(mask[:-1], mask[1:])
    return found


def wrong_legend(classes: list[str]) -> list[tuple[str, tuple[int, int, int]]]:
    """Returns what the colours of wrong pixels mean.

    >>> [text for text, _ in wrong_legend(["background", "cell"])]
    ['background in truth, predicted as cell', 'cell in truth, predicted as background']
    """
    if len(classes) == 2:
        first, second = classes
        return [
            (f"{first} in truth, predicted as {second}", WRONG),
            (f"{second} in truth, predicted as {first}", MISSED),
        ]
    missed = f"{classes[1]} in truth, predicted as {classes[0]}"
    return [(missed, MISSED), ("any other wrong class", WRONG)]


def _differ(one: Mask, other: Mask) -> NDArray[np.bool_]:
    different: NDArray[np.bool_] = (one != other) & (one != IGNORED) & (other != IGNORED)
    return different


def _scaled(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    way = Image.Resampling.LANCZOS if image.shape[0] >= side else Image.Resampling.NEAREST
    return np.array(Image.fromarray(image).convert("RGB").resize((side, side), way))


def _nearest(mask: Mask, side: int) -> Mask:
    return np.asarray(Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST))


def _stripes(side: int) -> NDArray[np.bool_]:
    rows, columns = np.indices((side, side))
    stripes: NDArray[np.bool_] = (rows + columns) // _DASH % 2 == 0
    return stripes


def colour_code(colour: tuple[int, int, int]) -> str:
    """Returns a colour as CSS.

    >>> colour_code((0, 114, 178))
    '#0072b2'
    """
    return "#" + "".join(f"{value:02x}" for value in colour)

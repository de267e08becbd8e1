"""Outlines and wrong pixels lie where masks differ, in the colours of the legend."""

import base64
import io

import numpy as np
from PIL import Image

from isthmus.data.masks import IGNORED
from isthmus.report.masks.pictures import (
    MISSED,
    PREDICTED,
    TRUE,
    WRONG,
    Outline,
    edges,
    outlined,
    wrong_legend,
    wrong_pixels,
)

SIDE = 160


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB")).astype(int)


def near(found: np.ndarray, colour: tuple[int, int, int], tolerance: int = 60) -> np.ndarray:
    return np.abs(found - colour).max(axis=-1) < tolerance


def halves(split: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:, split:] = 1
    return mask


def test_both_outlines_are_drawn_where_their_classes_meet_and_one_is_dashed() -> None:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)

    drawn = pixels(outlined(image, [Outline(halves(40), TRUE), Outline(halves(110), PREDICTED, dashed=True)], SIDE))

    true, predicted = near(drawn, TRUE, 90), near(drawn, PREDICTED, 90)
    assert true[:, 38:42].any(axis=1).mean() > 0.9 and not true[:, 60:].any()
    assert 0.3 < predicted[:, 108:112].any(axis=1).mean() < 0.8 and not predicted[:, :90].any()


def test_pixels_that_are_not_scored_make_no_edge() -> None:
    mask = halves(40)
    mask[:, 30:50] = IGNORED

    assert not edges(mask).any()


def test_wrong_pixels_have_the_colours_of_the_legend_and_right_ones_are_grey() -> None:
    image, truth, predicted = np.full((SIDE, SIDE), 100, np.uint8), halves(80), halves(80)
    predicted[:40, 80:] = 0  # class 1 missed
    predicted[120:, :80] = 1  # class 1 where there is none
    truth[60:100] = IGNORED

    drawn = pixels(wrong_pixels(image, predicted, truth, SIDE))

    assert near(drawn[10:30, 100:150], MISSED).all() and near(drawn[130:150, 10:70], WRONG).all()
    assert np.ptp(drawn[10:30, 10:70], axis=2).max() < 12
    assert 0.3 < (drawn[70:90, 10:150].mean(axis=2) > 200).mean() < 0.7  # stripes
    assert [colour for _, colour in wrong_legend(["a", "b"])] == [WRONG, MISSED]
    assert wrong_legend(["a", "b", "c"])[1] == ("any other wrong class", WRONG)

"""Pictures of boxes: which are right, and what is written at them."""

import base64
import io

import numpy as np
from PIL import Image

from isthmus.evaluation.scoring.boxes import Boxes, Detections
from isthmus.report.boxes.pictures import MISSED, RIGHT, WRONG, Verdicts, drawn, judged
from isthmus.report.masks.pictures import LARGE

CLASSES = ["background", "car", "van"]
TRUTH = Boxes(np.array([[10.0, 10, 30, 30], [50, 50, 70, 70]]), np.array([1, 2]))
FOUND = Detections(
    np.array([[10.0, 10, 30, 30], [50, 50, 70, 70], [0, 80, 9, 89]]), np.array([1, 1, 2]), np.array([0.9, 0.8, 0.1])
)


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))).astype(int)


def near(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(picture - colour).sum(axis=2) < 60).sum())


def test_a_box_of_another_class_is_wrong_and_each_box_bears_its_class_and_an_answer_its_score() -> None:
    found = judged(FOUND, TRUTH, 0.5, CLASSES)

    assert found.right.tolist() == [[10, 10, 30, 30]]
    assert found.wrong.tolist() == found.missed.tolist() == [[50, 50, 70, 70]]
    assert found.labels == (["car 0.90"], ["car 0.80"], ["van"])
    assert judged(FOUND, TRUTH, 0.5).labels == ([], [], [])


def test_labels_are_written_in_the_colour_of_their_boxes_inside_the_picture() -> None:
    image = np.full((100, 100), 40, np.uint8)
    plain, labelled = (pixels(drawn(image, judged(FOUND, TRUTH, 0.5, names), LARGE)) for names in ([], CLASSES))
    corner = Verdicts(np.array([[95.0, 0, 100, 5]]), np.zeros((0, 4)), np.zeros((0, 4)), (["a long name 1.00"], [], []))

    assert plain.shape == labelled.shape == (LARGE, LARGE, 3)
    for colour in (RIGHT, WRONG, MISSED):
        assert near(labelled, colour) > near(plain, colour) > 0
    assert near(pixels(drawn(image, corner, LARGE)), RIGHT) > 50 * 12

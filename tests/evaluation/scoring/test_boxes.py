"""Scores of boxes against pycocotools' figures, hand-worked ones, MONAI, and repeated images."""

import importlib.util

import numpy as np
import pytest

from isthmus.core.monai_import import monai_import
from isthmus.evaluation.metrics import group_weights
from isthmus.evaluation.scoring import boxes
from isthmus.evaluation.scoring.boxes import Boxes, Detections
from tests.require import require

CLASSES = 4
# pycocotools 2.0.11 and faster-coco-eval 1.8.0 on `answers(seed)`, image ids in this order: AP and AP50 of each class;
# the fourth is predicted but has no true box.
REFERENCE = {
    0: ([0.105720741424, 0.289603497587, 0.228526159987], [0.215096423024, 0.714321160377, 0.567488109022]),
    1: ([0.097642526808, 0.221283041168, 0.28710230192], [0.232878459527, 0.619341257434, 0.622616229234]),
}


def answers(seed: int) -> tuple[list[Detections], list[Boxes]]:
    """Twelve images, one without true boxes and one with over 100 detections of a class; 20 distinct scores."""
    rng = np.random.default_rng(seed)

    def anywhere(count: int) -> np.ndarray:
        low = rng.integers(90, size=(count, 2))
        return np.hstack([low, low + rng.integers(8, 40, size=(count, 2))]).astype(np.float64)

    truth, predicted = [], []
    for image in range(12):
        corners = anywhere(0 if image == 3 else int(rng.integers(1, 9)))
        classes = rng.integers(3, size=len(corners))
        near = [corners + rng.integers(-4, 5, size=corners.shape) for _ in range(3)]
        far = anywhere(150 if image == 5 else 6)
        far_classes = np.zeros(150, np.int64) if image == 5 else rng.integers(4, size=6)
        truth.append(Boxes(corners, classes))
        shown = np.vstack([*near, far])
        scores = rng.integers(20, size=len(shown)) / 20
        predicted.append(Detections(shown, np.concatenate([*[classes] * 3, far_classes]), scores))
    return predicted, truth


def scored(predicted: list[Detections], truth: list[Boxes]) -> np.ndarray:
    """Average precisions `[T, K]` of all images."""
    return boxes.average_precisions(boxes.match_boxes(predicted, truth, CLASSES), np.ones((1, len(truth))))[0]


def true(*corners: list[float]) -> Boxes:
    return Boxes(np.array(corners, dtype=np.float64).reshape(-1, 4), np.zeros(len(corners), np.int64))


def found(*corners: list[float], scores: list[float]) -> Detections:
    of_one_class = true(*corners)
    return Detections(of_one_class.corners, of_one_class.classes, np.array(scores))


@pytest.mark.parametrize("seed", REFERENCE)
def test_average_precision_is_that_of_pycocotools(seed: int) -> None:
    predicted, truth = answers(seed)

    precisions = scored(predicted, truth)

    ap, ap50 = REFERENCE[seed]
    np.testing.assert_allclose(boxes.class_ap(precisions), [*ap, np.nan], atol=1e-9)
    np.testing.assert_allclose(boxes.class_ap50(precisions), [*ap50, np.nan], atol=1e-9)
    assert boxes.ap(precisions) == pytest.approx(np.mean(ap), abs=1e-9)
    assert boxes.ap50(precisions) == pytest.approx(np.mean(ap50), abs=1e-9)


def test_a_detection_takes_the_later_of_two_equally_near_boxes_as_pycocotools_does() -> None:
    truth = [true([0, 0, 10, 10], [2, 0, 12, 10])]
    predicted = [found([1, 0, 11, 10], [0, 0, 10, 10], scores=[0.9, 0.8])]  # IoU .818 with both; 1 and .667

    precisions = scored(predicted, truth)[:, 0]

    half = 51 * 0.5 / 101  # at .85 and above: wrong, then right, so precision .5 up to a recall of .5
    np.testing.assert_allclose(precisions, [1.0] * 7 + [half] * 3)


def test_each_true_box_is_found_once_and_a_second_detection_of_it_is_wrong() -> None:
    truth = [true([0, 0, 10, 10], [50, 50, 60, 60])]
    predicted = [found([0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60], scores=[0.9, 0.8, 0.7])]

    precisions = scored(predicted, truth)[:, 0]

    np.testing.assert_allclose(precisions, (51 * 1.0 + 50 * 2 / 3) / 101)


def test_images_without_boxes_or_without_detections_have_their_place() -> None:
    no_detection, no_box = found(scores=[]), true()
    detection, box = found([0, 0, 10, 10], scores=[0.9]), true([0, 0, 10, 10])

    assert np.isnan(scored([no_detection], [no_box])).all()
    assert (scored([no_detection], [box])[:, 0] == 0.0).all()
    assert np.isnan(scored([detection], [no_box])).all()
    assert (scored([no_detection, detection], [no_box, box])[:, 0] == 1.0).all()
    first_is_wrong = [found([0, 0, 9, 9], scores=[0.95]), detection]
    assert (scored(first_is_wrong, [no_box, box])[:, 0] == 0.5).all()


@pytest.mark.parametrize("table", [10**7, 1000])
def test_a_resample_scores_what_its_images_score_when_they_are_repeated(
    table: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boxes, "_LARGEST_TABLE", table)
    predicted, truth = answers(0)
    rng = np.random.default_rng(0)
    predicted = [Detections(p.corners, p.classes, rng.random(len(p.scores))) for p in predicted]
    weights = group_weights(np.arange(12) // 2, 10, seed=0)

    drawn = boxes.average_precisions(boxes.match_boxes(predicted, truth, CLASSES), weights)

    assert drawn.shape == (10, 10, CLASSES)
    for row, weight in zip(drawn, weights.astype(int), strict=True):
        places = np.repeat(np.arange(12), weight)
        np.testing.assert_allclose(row, scored([predicted[i] for i in places], [truth[i] for i in places]), atol=1e-12)
    np.testing.assert_allclose(boxes.ap(drawn)[0], boxes.ap(drawn[0]))


def test_a_class_that_no_image_of_a_resample_has_is_left_out_of_its_mean() -> None:
    truth = [Boxes(np.array([[0.0, 0, 9, 9]]), np.array([k])) for k in (0, 1)]
    predicted = [Detections(truth[0].corners, truth[0].classes, np.ones(1)), found(scores=[])]

    matches = boxes.match_boxes(predicted, truth, 2)
    drawn = boxes.average_precisions(matches, np.array([[1.0, 1], [2, 0], [0, 2]]))

    np.testing.assert_allclose(boxes.ap(drawn), [0.5, 1.0, 0.0])
    np.testing.assert_allclose(boxes.class_ap50(drawn), [[1, 0], [1, np.nan], [np.nan, 0]])


def test_iou_of_boxes_is_their_shared_area_over_the_area_of_both() -> None:
    one = np.array([[0, 0, 10, 10], [3, 3, 3, 3]])
    other = np.array([[0, 0, 10, 10], [5, 5, 15, 15], [10, 0, 20, 10], [2, 2, 4, 4], [3, 3, 3, 3]])

    np.testing.assert_allclose(boxes.box_iou(one, other), [[1, 25 / 175, 0, 0.04, 0], [0, 0, 0, 0, 0]])
    assert boxes.box_iou(one, np.empty((0, 4))).shape == (2, 0)


def test_suppression_keeps_the_best_of_each_heap_of_a_class() -> None:
    corners = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [2, 0, 12, 10], [0, 0, 10, 10], [40, 40, 50, 50]])
    scores, classes = np.array([0.6, 0.9, 0.6, 0.5, 0.95]), np.array([0, 0, 0, 1, 0])

    assert boxes.suppress(corners, scores, classes, 0.5).tolist() == [4, 1, 3]
    # what is dropped drops nothing: 0 and 2 overlap by 80 / 120, each overlaps 1 by 90 / 110
    assert boxes.suppress(corners[[0, 1, 2]], np.array([0.9, 0.6, 0.5]), np.zeros(3, int), 0.7).tolist() == [0, 2]
    assert boxes.suppress(corners[:3], np.array([0.6, 0.5, 0.6]), np.zeros(3, int), 0.9).tolist() == [0, 2, 1]
    assert boxes.suppress(corners[[0, 1]], scores[[0, 1]], classes[[0, 1]], 90 / 110).tolist() == [1, 0]  # not above
    assert boxes.suppress(np.empty((0, 4)), np.empty(0), np.empty(0, int), 0.5).tolist() == []


def test_suppression_is_that_of_a_slow_count_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    low = rng.random((200, 2)) * 100
    corners = np.hstack([low, low + rng.uniform(0, 40, size=(200, 2))])
    scores, classes = rng.integers(1, 20, 200) / 20, rng.integers(3, size=200)
    slow: list[int] = []
    for place in np.argsort(-scores, kind="stable"):
        alike = [kept for kept in slow if classes[kept] == classes[place]]
        if not alike or boxes.box_iou(corners[place], corners[alike]).max() <= 0.4:
            slow.append(int(place))

    found = boxes.suppress(corners, scores, classes, 0.4)

    assert 20 < len(slow) < 180
    assert found.tolist() == slow


@pytest.mark.slow
@pytest.mark.parametrize("max_iou", [0.3, 0.6])
def test_suppression_is_monais(max_iou: float) -> None:
    require("monai", importlib.util.find_spec("monai") is not None)
    with monai_import():
        from monai.data.box_utils import batched_nms
    rng = np.random.default_rng(0)
    low = rng.random((300, 2)) * 100
    corners = np.hstack([low, low + rng.uniform(10, 40, size=(300, 2))])
    scores, classes = rng.random(300), rng.integers(3, size=300)

    ours = boxes.suppress(corners, scores, classes, max_iou)

    theirs = batched_nms(corners, scores, classes, max_iou)
    assert 0 < len(ours) < 300
    assert ours.tolist() == np.asarray(theirs).tolist()

"""Boxes from cells, and what boxes are worth, against plain counts."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isthmus.core.errors import DataError
from isthmus.core.files import write_json
from isthmus.data.boxes import cell_extents, cell_labels
from isthmus.data.manifest import BOXES, INDEX, write_table
from isthmus.evaluation.boxes import LEAST_SCORE, TrueBoxes, detections
from isthmus.evaluation.scoring.box_truth import best_threshold, build_box_truth, image_scores
from isthmus.evaluation.scoring.boxes import (
    Boxes,
    Detections,
    Matches,
    ap50,
    average_precisions,
    box_iou,
    match_boxes,
)

GRID, SIDE = (8, 8), 64
TRUE = np.array([[1, 4.0, 4, 28, 20], [2, 30, 30, 60, 62], [1, 34, 2, 50, 18]])


def perfect(boxes: np.ndarray, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Returns the logits and extents of a model that knows the boxes."""
    labels = cell_labels(boxes, GRID, SIDE, classes)
    extents = np.nan_to_num(cell_extents(boxes, GRID, SIDE), nan=0.1)
    return np.log(np.maximum(labels, 1e-6)), extents


def test_a_model_that_knows_the_boxes_answers_them_once_each() -> None:
    found = detections(*perfect(TRUE), GRID, SIDE)

    best = found.scores > 0.9
    assert sorted(found.classes[best].tolist()) == [1, 1, 2]
    overlap = box_iou(found.corners[best], TRUE[:, 1:]).max(axis=0)
    assert (overlap > 0.999).all()
    assert (np.diff(found.scores) <= 0).all() and (found.scores >= LEAST_SCORE).all()


def test_boxes_that_another_one_of_their_class_covers_are_left_out_as_by_a_naive_loop() -> None:
    rng = np.random.default_rng(0)
    logits, extents = rng.normal(0, 2, (64, 3)), rng.uniform(0.5, 4, (64, 4)).astype(np.float32)

    found = detections(logits, extents, GRID, SIDE)

    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    waiting = []
    for cell in range(64):
        row, column = divmod(cell, 8)
        x, y = column * 8 + 4, row * 8 + 4
        left, top, right, bottom = extents[cell].astype(float) * 8
        box = [max(x - left, 0), max(y - top, 0), min(x + right, 64), min(y + bottom, 64)]
        waiting += [(shares[cell, k], k, box) for k in (1, 2) if shares[cell, k] >= LEAST_SCORE]
    kept: list[tuple[float, int, list[float]]] = []
    for score, k, box in sorted(waiting, key=lambda entry: -entry[0]):
        if all(k != other or box_iou(np.array([box]), np.array([b]))[0, 0] <= 0.5 for _, other, b in kept):
            kept.append((score, k, box))
    assert np.allclose(found.corners, [box for *_, box in kept])
    assert found.classes.tolist() == [k for _, k, _ in kept]


def test_an_image_in_which_every_cell_is_background_answers_no_box() -> None:
    found = detections(np.tile([9.0, 0, 0], (64, 1)), np.ones((64, 4), np.float32), GRID, SIDE)

    assert found.corners.shape == (0, 4)


def test_true_boxes_are_those_of_the_source_unless_the_targets_are_named(tmp_path: Path) -> None:
    (tmp_path / "prepared").mkdir()
    (tmp_path / "target").mkdir()
    index = pd.DataFrame({"image_id": ["a", "b", "c"], "domain": "d", "shard": "s", "row": [0, 1, 2]})
    write_table(tmp_path / "prepared" / "index.parquet", index, INDEX)
    write_json(tmp_path / "prepared" / "facts.json", {"height": 64})
    one = pd.DataFrame({"image_id": ["a"], "boxes": [json.dumps([[1, 2, 3, 4, 5]])]})
    write_table(tmp_path / "prepared" / "boxes.parquet", one, BOXES)
    write_table(tmp_path / "target" / "boxes.parquet", one.assign(image_id="c", boxes="[]"), BOXES)
    rows = np.arange(3)

    source, both = TrueBoxes(tmp_path / "prepared"), TrueBoxes(tmp_path / "prepared", tmp_path / "target")

    assert source.known(rows).tolist() == [True, False, False] and both.known(rows).tolist() == [True, False, True]
    assert source.take(rows)[0].corners.tolist() == [[2, 3, 4, 5]] and len(both.take(rows)[2].classes) == 0


def answers(shift: float, wrong: int) -> list[Detections]:
    """Returns the boxes of four images: the true one moved, and wrong ones of lower score elsewhere."""
    out = []
    for n in range(4):
        corners = [[10 + shift, 10, 30 + shift, 30], *([40.0 + k, 40, 50 + k, 50] for k in range(wrong))]
        scores = [0.9 - 0.1 * n, *[0.3] * wrong]
        out.append(Detections(np.array(corners), np.ones(1 + wrong, np.int64), np.array(scores)))
    return out


TRUTH = [Boxes(np.array([[10.0, 10, 30, 30]]), np.array([1])) for _ in range(3)] + [
    Boxes(np.zeros((0, 4)), np.zeros(0, int))
]


def test_truth_compares_methods_by_ap50_and_counts_what_reaches_the_threshold() -> None:
    matches = {
        "source_only": [match_boxes(answers(12, 0), TRUTH, 2)] * 2,
        "mmd": [match_boxes(answers(1, 2), TRUTH, 2), match_boxes(answers(12, 2), TRUTH, 2)],
    }

    truth = build_box_truth(
        matches, {"source_only": 3, "mmd": 4}, np.array(["a", "a", "b", "c"]), ["ground", "cell"], "mmd", 0.65, 50, 0
    )

    assert (truth["metric"], truth["boxes"], truth["count"], truth["oracle"]["method"]) == ("ap50", 3, 4, "mmd")
    mine = truth["methods"]["mmd"]
    assert mine["ap50"]["per_seed"] == pytest.approx([1.0, 0.0]) and mine["ap50"]["mean"] == pytest.approx(0.5)
    assert truth["methods"]["source_only"]["ap50"]["mean"] == 0
    assert mine["minus_source_only"]["mean"] == pytest.approx(0.5) and mine["transfer"] == "better"
    row = mine["per_class"]["cell"]
    assert list(mine["per_class"]) == ["cell"]
    assert (row["boxes"], row["answered"], row["recall"], row["precision"]) == (3, 3, 0.5, 0.5)


def test_a_truth_without_a_box_cannot_be_scored() -> None:
    found = match_boxes(answers(0, 0)[:1], TRUTH[3:], 2)

    with pytest.raises(DataError, match="annotations hold no box in 1 test images; annotate some that show an object"):
        build_box_truth(
            {"source_only": [found]}, {"source_only": 1}, np.array(["a"]), ["g", "c"], "source_only", 0.5, 9, 0
        )


def test_the_threshold_is_where_precision_and_recall_are_best() -> None:
    assert best_threshold(match_boxes(answers(0, 3), TRUTH, 2)) == pytest.approx(0.7)
    assert best_threshold(match_boxes(answers(20, 0), TRUTH, 2)) == 0.5


def test_an_image_without_an_object_scores_by_whether_a_box_is_answered() -> None:
    matches = match_boxes(answers(0, 0), TRUTH, 2)

    assert image_scores(matches, 0.5).tolist() == pytest.approx([1, 1, 1, 0])
    assert image_scores(matches, 0.65).tolist() == pytest.approx([1, 1, 1, 1])


def test_each_image_is_scored_as_in_a_resample_of_itself_in_memory_that_does_not_grow_with_all_pairs() -> None:
    rng = np.random.default_rng(0)
    images, detections = 3000, 9000
    of = np.sort(rng.integers(0, images, detections))
    scores = rng.integers(1, 20, detections) / 20  # many are equal
    true = rng.integers(0, 3, (images, 3)) * (rng.random((images, 1)) < 0.8)
    matches = Matches(of, rng.integers(1, 3, detections), scores, rng.random((10, detections)) < 0.3, true)
    few = of < 300
    small = Matches(of[few], matches.classes[few], scores[few], matches.right[:, few], true[:300])

    tracemalloc.start()
    found = image_scores(matches, 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    shown = small.true_boxes.any(axis=1)
    by_itself = ap50(average_precisions(small, np.eye(300)))
    np.testing.assert_allclose(found[:300][shown], by_itself[shown], rtol=1e-15)  # the last bit: the order of a sum
    np.testing.assert_array_equal(found[:300][shown].astype(np.float32), by_itself[shown].astype(np.float32))
    assert shown.sum() > 100 and len(set(by_itself[shown])) > 20
    assert peak < 5e6  # one number for each pair of images would be 7.2e7 bytes

"""Scores of masks against hand-worked figures, scikit-learn, and loops over images and resamples."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score

from isthmus.core.errors import DataError
from isthmus.evaluation.metrics import group_weights
from isthmus.evaluation.scoring import masks
from tests.evaluation.scoring.mask_files import blobs, moved, with_unscored


@pytest.mark.parametrize("classes", [2, 5])
def test_counts_and_scores_are_those_of_scikit_learn_over_the_scored_pixels(classes: int) -> None:
    truth = with_unscored(blobs(6, classes, seed=classes))
    predicted = moved(blobs(6, classes, seed=classes), seed=1)

    counts = masks.confusions(predicted, truth, classes)

    for image in range(len(truth)):
        scored = truth[image] != 255
        expected = confusion_matrix(truth[image][scored], predicted[image][scored], labels=range(classes))
        assert counts[image].tolist() == expected.tolist()
    true, answers = truth[truth != 255], predicted[truth != 255]
    present, total = np.unique(true), counts.sum(axis=0)
    iou = jaccard_score(true, answers, average=None, labels=present)
    f1 = f1_score(true, answers, average=None, labels=present)
    np.testing.assert_allclose(masks.class_iou(total)[present], iou, atol=1e-12)
    np.testing.assert_allclose(masks.class_dice(total)[present], f1, atol=1e-12)
    assert masks.mean_iou(total) == pytest.approx(iou.mean(), abs=1e-12)
    assert masks.dice(total) == pytest.approx(f1.mean(), abs=1e-12)
    assert masks.pixel_accuracy(total) == pytest.approx(accuracy_score(true, answers), abs=1e-12)


def test_a_class_that_is_predicted_but_does_not_occur_has_no_score_and_costs_the_others() -> None:
    counts = np.array([[6, 0, 2], [1, 3, 0], [0, 0, 0]])

    assert np.isnan(masks.class_iou(counts)[2])
    assert np.isnan(masks.class_dice(counts)[2])
    assert masks.mean_iou(counts) == pytest.approx((6 / 9 + 3 / 4) / 2)


def test_images_without_a_scored_pixel_have_no_score() -> None:
    counts = masks.confusions(np.zeros((1, 4, 4), np.uint8), np.full((1, 4, 4), 255, np.uint8), 2)

    assert np.isnan([masks.mean_iou(counts[0]), masks.dice(counts[0]), masks.pixel_accuracy(counts[0])]).all()


@pytest.mark.parametrize("score", [masks.mean_iou, masks.dice, masks.pixel_accuracy])
def test_a_resample_scores_what_its_images_score_when_they_are_repeated(score: Callable[..., Any]) -> None:
    truth = blobs(8, 3, seed=0)
    counts = np.stack([masks.confusions(moved(truth, seed), truth, 3) for seed in (1, 2)])
    weights = group_weights(np.arange(8) // 2, 5, seed=0)

    drawn = masks.resampled(score, counts, weights)

    assert drawn.shape == (5, 2)
    for row, weight in zip(drawn, weights.astype(int), strict=True):
        repeated = counts[:, np.repeat(np.arange(8), weight)]
        np.testing.assert_allclose(row, [score(seed.sum(axis=0)) for seed in repeated], atol=1e-12)


def test_a_thousand_resamples_of_two_thousand_images_of_twenty_classes_take_seconds() -> None:
    counts = np.random.default_rng(0).integers(50, size=(3, 2000, 20, 20))
    weights = group_weights(np.arange(2000), 1000, seed=0)
    start = time.perf_counter()

    drawn = masks.resampled(masks.mean_iou, counts, weights)

    assert drawn.shape == (1000, 3)
    assert time.perf_counter() - start < 20


def test_edge_pixels_match_up_to_the_tolerance() -> None:
    truth, predicted = np.zeros((2, 1, 20, 20), np.uint8)
    truth[0, 5:11, 5:11] = 1  # 20 edge pixels
    predicted[0, 5:11, 8:14] = 1

    # at 0, only what both share matches: 3 pixels of the upper and of the lower side, in either mask
    assert masks.boundary_scores(predicted, truth, 2, tolerance=0)[0, 1] == pytest.approx(12 / 40)
    # at 2, all but the 6 pixels of the left side of the one and of the right side of the other, which are 3 off
    assert masks.boundary_scores(predicted, truth, 2, tolerance=2)[0, 1] == pytest.approx(28 / 40)
    assert masks.boundary_scores(predicted, truth, 2, tolerance=3)[0, 1] == 1.0
    assert masks.boundary_scores(truth, truth, 2, tolerance=0).tolist() == [[1.0, 1.0]]


def test_a_class_has_a_boundary_score_where_it_occurs_in_the_truth_alone() -> None:
    truth = np.zeros((2, 12, 12), np.uint8)
    truth[0, 4:8, 4:8] = 1
    predicted = np.zeros((2, 12, 12), np.uint8)
    predicted[1, 4:8, 4:8] = 1

    scores = masks.boundary_scores(predicted, truth, 3)

    assert scores[0, 1] == 0.0
    assert np.isnan([scores[1, 1], scores[0, 2], scores[1, 2]]).all()
    assert masks.class_boundary(scores[None], np.ones((1, 2)))[0, 0, 1] == 0.0


def test_what_is_predicted_among_unscored_pixels_and_near_them_changes_no_boundary_score() -> None:
    truth = with_unscored(blobs(4, 3, seed=3))
    predicted = moved(blobs(4, 3, seed=3), seed=4)
    other = predicted.copy()
    other[truth == 255] = 0

    scores = masks.boundary_scores(predicted, truth, 3)

    np.testing.assert_array_equal(masks.boundary_scores(other, truth, 3), scores)
    assert (~np.isnan(scores)).sum() >= 8


def test_the_outline_of_an_annotated_area_is_no_boundary() -> None:
    truth = np.full((1, 30, 30), 255, np.uint8)
    truth[0, 8:22, 8:22] = 1

    assert np.isnan(masks.boundary_scores(np.ones_like(truth), truth, 2)).all()

    truth[0, 8:22, 15:22] = 0
    scores = masks.boundary_scores(np.where(truth == 255, 0, truth), truth, 2)
    assert scores.tolist() == [[1.0, 1.0]]
    wrong = np.ones_like(truth)
    wrong[0, :, 18:] = 0  # the boundary 3 pixels from the true one
    assert masks.boundary_scores(wrong, truth, 2, tolerance=3).tolist() == [[1.0, 1.0]]
    assert masks.boundary_scores(wrong, truth, 2, tolerance=2).max() == 0.0


def test_an_edge_that_is_too_near_to_unscored_pixels_to_count_still_matches() -> None:
    truth, predicted = np.zeros((2, 1, 24, 24), np.uint8)
    truth[0, :, :18] = predicted[0, :, :17] = 1
    truth[0, :, 20:] = 255  # 3 pixels from the true edge, 4 from the predicted one: only the latter counts

    assert masks.boundary_scores(predicted, truth, 2)[0, 1] == 1.0


def test_boundary_scores_are_resampled_as_weighted_means_over_images_then_over_classes() -> None:
    rng = np.random.default_rng(0)
    boundaries = rng.random((2, 6, 3))
    boundaries[:, [0, 3], 1] = np.nan
    boundaries[:, :5, 2] = np.nan
    weights = group_weights(np.arange(6), 20, seed=1)

    drawn = masks.resampled_boundary(boundaries, weights)

    for row, weight in zip(drawn, weights.astype(int), strict=True):
        for value, scores in zip(row, boundaries[:, np.repeat(np.arange(6), weight)], strict=True):
            columns = [c[~np.isnan(c)] for c in scores.T]
            assert value == pytest.approx(np.mean([c.mean() for c in columns if len(c)]), abs=1e-12)


def test_masks_of_different_shapes_are_refused() -> None:
    with pytest.raises(DataError, match=r"predicted masks are \[1, 4, 4\], true ones \[1, 4, 5\]: they must be alike"):
        masks.confusions(np.zeros((1, 4, 4), np.uint8), np.zeros((1, 4, 5), np.uint8), 2)


@pytest.mark.parametrize("of", ["predicted", "true"])
@pytest.mark.parametrize("score", [masks.confusions, masks.boundary_scores])
def test_values_that_are_no_class_are_refused(score: Callable[..., Any], of: str) -> None:
    sound, broken = np.zeros((1, 4, 4), np.uint8), np.full((1, 4, 4), 3, np.uint8)
    given = (broken, sound) if of == "predicted" else (sound, broken)

    with pytest.raises(DataError, match=f"a {of} mask holds the value 3: allowed are 0 to 2, and 255 in the truth"):
        score(*given, 3)

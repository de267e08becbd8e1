"""Scores of anomaly detection against scikit-learn, and a slow loop over thresholds and regions."""

import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label
from sklearn.metrics import roc_auc_score

from isthmus.core.errors import DataError
from isthmus.evaluation.metrics import group_weights
from isthmus.evaluation.scoring import anomaly


def image_scores(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    defective = rng.random(60) < 0.3
    scores = rng.normal(size=60) + defective
    return (scores.round(0) if ties else scores), defective


def maps_and_masks(seed: int, levels: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Maps `[N, H, W]` of some skill, of few distinct values if `levels` is set, and masks of several regions."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=(4, 20, 20)), (0, 2, 2))
    truth = (field > np.quantile(field, 0.9)).astype(np.uint8)
    truth[0] = 0
    maps = field / field.std() + rng.normal(size=field.shape)
    return (maps if levels is None else (maps * levels).round() / levels), truth


def slow_aupro(maps: np.ndarray, truth: np.ndarray, limit: float) -> float:
    """The area by its definition: every threshold, every region, trapezoids; the last is cut at the limit."""
    regions = []
    for image, mask in enumerate(truth):
        numbers, count = label((mask > 0) & (mask != 255), structure=np.ones((3, 3)))
        regions += [(image, numbers == number) for number in range(1, count + 1)]
    good = truth == 0
    curve = [(0.0, 0.0)]
    for threshold in sorted(set(maps[truth != 255]), reverse=True):
        alarms = maps >= threshold
        overlap = np.mean([alarms[image][region].mean() for image, region in regions])
        curve.append((alarms[good].mean(), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x0 >= limit:
            break
        if x1 > limit:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_auroc_of_images_is_that_of_scikit_learn(seed: int, ties: bool) -> None:
    scores, defective = image_scores(seed, ties)

    assert anomaly.auroc(scores, defective) == pytest.approx(roc_auc_score(defective, scores), abs=1e-12)


@pytest.mark.parametrize("levels", [None, 2])
def test_pixel_auroc_is_that_of_scikit_learn_over_the_scored_pixels(levels: int | None) -> None:
    maps, truth = maps_and_masks(0, levels)
    truth[1, :5] = 255
    scored = truth != 255

    expected = roc_auc_score(truth[scored], maps[scored])

    assert anomaly.pixel_auroc(maps, truth) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_aupro_is_the_area_by_its_definition(levels: int | None, limit: float) -> None:
    maps, truth = maps_and_masks(1, levels)
    truth[1, :5] = 255

    assert anomaly.aupro(maps, truth, limit) == pytest.approx(slow_aupro(maps, truth, limit), abs=1e-9)


def test_aupro_counts_a_small_region_as_much_as_a_large_one_and_joins_regions_at_corners() -> None:
    truth = np.zeros((1, 10, 10), np.uint8)
    truth[0, :4, :4] = 1
    truth[0, 8, 8] = truth[0, 9, 9] = 7  # one region of two pixels; any value but 0 and 255 is a defect
    maps = np.zeros((1, 10, 10))
    maps[0, :4, :4] = 2.0  # the large region is found before any good pixel

    # 16 of 16 of the one and 0 of 2 of the other, then both at a false positive rate of 1
    at_limit = 0.5 + 0.5 * 0.3
    assert anomaly.aupro(maps, truth) == pytest.approx((0.5 + at_limit) / 2)
    assert anomaly.aupro(truth.astype(float), truth) == pytest.approx(1.0)


def test_the_resampled_auroc_is_that_of_the_repeated_images() -> None:
    scores, defective = image_scores(0, ties=True)
    weights = group_weights(np.arange(60) // 3, 20, seed=0)

    drawn = anomaly.resampled_auroc(scores, defective, weights)

    for value, weight in zip(drawn, weights.astype(int), strict=True):
        rows = np.repeat(np.arange(60), weight)
        assert value == pytest.approx(roc_auc_score(defective[rows], scores[rows]), abs=1e-12)


def test_what_needs_both_good_and_defective_ones_is_undefined_without() -> None:
    scores, maps = np.arange(4.0), np.random.default_rng(0).random((1, 4, 4))

    assert np.isnan(anomaly.auroc(scores, np.ones(4, bool)))
    assert np.isnan(anomaly.resampled_auroc(scores, scores > 2, np.array([[1.0, 1, 1, 0]]))).all()
    for fill in (0, 1, 255):
        mask = np.full((1, 4, 4), fill, np.uint8)
        assert np.isnan([anomaly.pixel_auroc(maps, mask), anomaly.aupro(maps, mask)]).all()


@pytest.mark.parametrize("score", [anomaly.pixel_auroc, anomaly.aupro])
def test_maps_and_masks_of_different_shapes_are_refused(score: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match=r"anomaly maps are \[1, 4, 4\], true masks \[1, 4, 5\]: they must be alike"):
        score(np.zeros((1, 4, 4)), np.zeros((1, 4, 5), np.uint8))


def test_the_resampled_auroc_of_many_images_needs_no_table_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    scores, defective = rng.random(6000), np.arange(6000) % 3 == 0
    weights = np.ones((2, 6000))
    tracemalloc.start()

    drawn = anomaly.resampled_auroc(scores, defective, weights)

    assert tracemalloc.get_traced_memory()[1] < 2_000_000  # 2,000 by 4,000 numbers have 64 MB
    tracemalloc.stop()
    assert drawn == pytest.approx([anomaly.auroc(scores, defective)] * 2, abs=1e-12)

"""Scores of anomaly detection: how well defects rank above good images and pixels, and how often good ones alarm.

A score is higher the more an image or pixel looks like a defect. An alarm is a score above the threshold.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from scipy.stats import rankdata

from isthmus.core.errors import DataError
from isthmus.data.masks import IGNORED, Mask
from isthmus.evaluation.metrics import Reals

MAX_FALSE_POSITIVES = 0.3  # [share] of good pixels, up to which AUPRO is taken
_NEIGHBOURS = np.ones((3, 3), dtype=np.int64)  # pixels that touch at a corner are of one region, as in MVTec's code


def auroc(scores: NDArray[np.floating], defective: NDArray[np.bool_]) -> float:
    """Returns the area under the ROC curve; NaN where all are defective or none is.

    The share of pairs of a defective and a good one in which the defective one scores higher; equal scores count
    half (Mann & Whitney, Annals of Mathematical Statistics 1947).

    Args:
        scores: `[N]`, of images or of pixels.
        defective: bool `[N]`.

    >>> auroc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
    0.875
    """
    positives, negatives = int(defective.sum()), int((~defective).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[defective].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def resampled_auroc(scores: NDArray[np.floating], defective: NDArray[np.bool_], weights: Reals) -> Reals:
    """Returns the AUROC of images in each resample, `[resamples]`; NaN where a resample lacks good or defective ones.

    Args:
        scores: `[N]`.
        defective: bool `[N]`.
        weights: `[resamples, N]`, how often each image is in each resample (`metrics.group_weights`).
    """
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    first = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))  # of equal scores
    heavy, light = (np.add.reduceat(weights[:, order] * here[order], first, axis=1) for here in (defective, ~defective))
    pairs = heavy.sum(axis=1) * light.sum(axis=1)
    won = (heavy * (light.cumsum(axis=1) - light / 2)).sum(axis=1)  # good ones below, and half of the equal ones
    result: Reals = np.divide(won, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)
    return result


def pixel_auroc(maps: NDArray[np.floating], truth: Mask) -> float:
    """Returns the AUROC of the pixels of all images together; NaN where all are defective or none is.

    Args:
        maps: `[N, H, W]`, score of each pixel.
        truth: uint8 `[N, H, W]`; 0 is good, 255 is not scored, all else is a defect.

    Raises:
        DataError: maps and masks differ in shape.
    """
    _check(maps, truth)
    scored = truth != IGNORED
    return auroc(maps[scored], truth[scored] > 0)


def aupro(maps: NDArray[np.floating], truth: Mask, limit: float = MAX_FALSE_POSITIVES) -> float:
    """Returns the area under the curve of per-region overlap against the false positive rate, as a share of its limit.

    Bergmann et al., IJCV 2021, "The MVTec Anomaly Detection Dataset", section 4.2.2
    (https://doi.org/10.1007/s11263-020-01400-4): at each threshold, the overlap is the mean over all connected regions
    of defects of the share of their pixels that alarm, so that a small defect counts as much as a large one; the false
    positive rate is the share of alarms among the good pixels of all images. The curve is taken over every threshold
    of the data and cut at `limit` by a straight line between its neighbours.

    Args:
        maps: `[N, H, W]`, score of each pixel.
        truth: uint8 `[N, H, W]`; 0 is good, 255 is not scored, all else is a defect.
        limit: the largest false positive rate [share].

    Returns:
        A share of 1, and NaN without a defect or without a good pixel. Random scores get `limit` / 2.

    Raises:
        DataError: maps and masks differ in shape.
    """
    _check(maps, truth)
    scored = truth != IGNORED
    good, shares = (truth == 0)[scored], _region_shares((truth > 0) & scored)[scored]
    if not good.any() or good.all():
        return float("nan")
    false_alarms, overlaps = _cumulated(maps[scored], np.stack([good, shares]))
    rates, values = np.append(0.0, false_alarms / good.sum()), np.append(0.0, overlaps)
    below = rates <= limit
    at_limit = np.interp(limit, rates, values)  # the last of equal rates: the highest overlap that the limit allows
    return float(np.trapezoid(np.append(values[below], at_limit), np.append(rates[below], limit)) / limit)


def _check(maps: NDArray[np.floating], truth: Mask) -> None:
    if maps.shape != truth.shape:
        raise DataError(f"anomaly maps are {list(maps.shape)}, true masks {list(truth.shape)}: they must be alike")


def _region_shares(defects: NDArray[np.bool_]) -> Reals:
    """Returns what a found pixel adds to the mean overlap of all regions, `[N, H, W]`; 0 where there is no defect."""
    shares: Reals = np.zeros(defects.shape)
    regions = 0
    for image, mask in enumerate(defects):
        numbers, count = label(mask, structure=_NEIGHBOURS)
        sizes = np.bincount(numbers.ravel(), minlength=count + 1)
        shares[image][mask] = 1 / sizes[numbers[mask]]
        regions += count
    return shares / max(regions, 1)


def _cumulated(scores: NDArray[np.floating], amounts: Reals) -> Reals:
    """Returns the amounts `[A, N]` at or above each distinct score, from the highest down: `[A, distinct scores]`."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(ranked[1:] != ranked[:-1], True)
    result: Reals = amounts[:, order].cumsum(axis=1)[:, last]
    return result

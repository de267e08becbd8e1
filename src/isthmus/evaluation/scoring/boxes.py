"""Scores of boxes: intersection over union, non-maximum suppression, and average precision as COCO defines it.

Boxes are corners `[x1, y1, x2, y2]` [pixel], x to the right and y down, with width x2 - x1 (no pixel is added).
Average precision equals that of pycocotools (https://github.com/cocodataset/cocoapi; Lin et al., ECCV 2014,
https://arxiv.org/abs/1405.0312) for the area range `all` and data without crowd regions, also where scores tie.
Matches are kept by image, so that the score of a resample of images costs no new matching.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.evaluation.metrics import Reals
from isthmus.evaluation.scoring.masks import mean_defined

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # the first is that of AP50
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100  # of one class in one image; COCO counts the ones of highest score
_ROUNDING = 1e-10  # what pycocotools forgives a threshold of 1
_LARGEST_TABLE = 10**7  # numbers held at once while resampling


@dataclass(frozen=True)
class Boxes:
    """The true boxes of an image."""

    corners: Reals  # [G, 4], pixel
    classes: NDArray[np.int64]  # [G]


@dataclass(frozen=True)
class Detections:
    """The predicted boxes of an image, in any order."""

    corners: Reals  # [D, 4], pixel
    classes: NDArray[np.int64]  # [D]
    scores: Reals  # [D], higher is more certain


@dataclass(frozen=True)
class Matches:
    """The detections of all images that count, and which of them are right.

    Detections are in the order of the images, and within an image of a class from the highest score down.
    """

    images: NDArray[np.int64]  # [D], from 0 to N - 1
    classes: NDArray[np.int64]  # [D]
    scores: Reals  # [D]
    right: NDArray[np.bool_]  # [T, D], at each IoU threshold
    true_boxes: NDArray[np.int64]  # [N, K]


def box_iou(one: NDArray[Any], other: NDArray[Any]) -> Reals:
    """Returns the intersection over union of each pair of boxes, `[A, B]`; 0 where both are empty.

    Args:
        one: `[A, 4]`, corners.
        other: `[B, 4]`, corners.

    >>> box_iou(np.array([[0, 0, 2, 2]]), np.array([[1, 0, 3, 2], [2, 2, 4, 4]])).round(3).tolist()
    [[0.333, 0.0]]
    """
    first, second = (np.asarray(boxes, dtype=np.float64).reshape(-1, 4) for boxes in (one, other))
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (first, second)]
    union = areas[0][:, None] + areas[1][None] - shared
    result: Reals = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result


def suppress(
    corners: NDArray[Any], scores: NDArray[Any], classes: NDArray[np.int64], max_iou: float
) -> NDArray[np.int64]:
    """Returns which boxes of an image greedy non-maximum suppression keeps, int64 `[kept]`, highest score first.

    A box is dropped if its IoU with a kept box of the same class and a higher score is above `max_iou`. Of equal
    scores the earlier box goes first. In numpy, since torchvision's own does not run on every build for a CPU.

    Args:
        corners: `[D, 4]`.
        scores: `[D]`.
        classes: `[D]`.
        max_iou: [share].

    >>> boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 5], [0, 0, 4, 4]])
    >>> suppress(boxes, np.array([0.5, 0.9, 0.4]), np.array([0, 0, 1]), 0.5).tolist()
    [1, 2]
    """
    kept: list[NDArray[np.int64]] = []
    for k in np.unique(classes):
        mine = np.flatnonzero(classes == k)
        mine = mine[np.argsort(-scores[mine], kind="stable")]
        own, free = corners[mine], np.ones(len(mine), np.bool_)
        for place, near in enumerate(beside(own, own)):
            lower = near[(near > place) & free[near]]
            if free[place] and len(lower):
                free[lower[box_iou(own[place], own[lower])[0] > max_iou]] = False
        kept.append(mine[free])
    places = np.sort(np.concatenate([np.empty(0, dtype=np.int64), *kept]))
    result: NDArray[np.int64] = places[np.argsort(-scores[places], kind="stable")]
    return result


def beside(boxes: NDArray[Any], others: NDArray[Any]) -> Iterator[NDArray[np.int64]]:
    """Yields the places of the others that may overlap each box, by their left and right edges.

    An image of many windows has tens of thousands of boxes: a table of all pairs would not fit into memory.

    Args:
        boxes: `[A, 4]`, corners.
        others: `[B, 4]`, corners.

    >>> [near.tolist() for near in beside(np.array([[0, 0, 2, 2]]), np.array([[9, 0, 10, 2], [1, 0, 3, 2]]))]
    [[1]]
    """
    order = np.argsort(others[:, 0], kind="stable")
    lefts, widest = others[order, 0], (others[:, 2] - others[:, 0]).max(initial=0)
    first = np.searchsorted(lefts, boxes[:, 0] - widest, side="left")
    last = np.searchsorted(lefts, boxes[:, 2], side="right")
    return (order[start:end] for start, end in zip(first, last, strict=True))


def match_boxes(predicted: Sequence[Detections], truth: Sequence[Boxes], classes: int) -> Matches:
    """Returns which detections are right at each of the IoU thresholds .50:.05:.95.

    In each image and class the detections take, from the highest score down, the free true box of highest IoU, if
    that reaches the threshold (of equal IoU the later box, as pycocotools does). Only the first 100 count.

    Args:
        predicted: N images.
        truth: the same N images.
        classes: K; boxes have classes 0 to K - 1.
    """
    found: list[tuple[int, int, Reals, NDArray[np.bool_]]] = []
    for image, (answer, true) in enumerate(zip(predicted, truth, strict=True)):
        for k in np.unique(answer.classes):
            mine = np.flatnonzero(answer.classes == k)
            mine = mine[np.argsort(-answer.scores[mine], kind="stable")][:MAX_DETECTIONS]
            overlaps = box_iou(answer.corners[mine], true.corners[true.classes == k])
            found.append((image, int(k), answer.scores[mine], _right(overlaps)))
    sizes = [len(scores) for _, _, scores, _ in found]
    return Matches(
        images=np.repeat(np.array([image for image, *_ in found], dtype=np.int64), sizes),
        classes=np.repeat(np.array([k for _, k, *_ in found], dtype=np.int64), sizes),
        scores=np.concatenate([np.empty(0), *(scores for _, _, scores, _ in found)]),
        right=np.concatenate(
            [np.empty((len(IOU_THRESHOLDS), 0), dtype=np.bool_), *(right for *_, right in found)], axis=1
        ),
        true_boxes=np.stack([np.bincount(true.classes, minlength=classes) for true in truth]).astype(np.int64),
    )


def average_precisions(matches: Matches, weights: Reals) -> Reals:
    """Returns the average precision at each IoU threshold of each class in each resample, `[resamples, T, K]`.

    The mean over the recalls 0, .01, ..., 1 of the highest precision at that recall or a higher one; NaN for a class
    without a true box. In a resample that holds an image several times, its copies of a detection stand together.

    Args:
        matches: of N images.
        weights: `[resamples, N]`, how often each image is in each resample (`metrics.group_weights`); ones for the
            score of all images.
    """
    classes = matches.true_boxes.shape[1]
    result: Reals = np.full((len(weights), len(IOU_THRESHOLDS), classes), np.nan)
    parts = max(1, len(weights) * len(matches.scores) // _LARGEST_TABLE)
    for k in range(classes):
        mine = np.flatnonzero(matches.classes == k)
        mine = mine[np.argsort(-matches.scores[mine], kind="stable")]
        for rows in np.array_split(np.arange(len(weights)), parts):
            result[rows, :, k] = _class_precisions(
                matches.right[:, mine], weights[rows][:, matches.images[mine]], weights[rows] @ matches.true_boxes[:, k]
            )
    return result


def ap(precisions: Reals) -> Reals:
    """Returns COCO's AP of `average_precisions` `[..., T, K]`, the mean over thresholds and classes: `[...]`."""
    return mean_defined(class_ap(precisions))


def ap50(precisions: Reals) -> Reals:
    """Returns the average precision at an IoU of .5, the mean over classes, of `[..., T, K]`: `[...]`."""
    return mean_defined(class_ap50(precisions))


def class_ap(precisions: Reals) -> Reals:
    """Returns the AP of each class, the mean over thresholds of `[..., T, K]`: `[..., K]`; NaN without a true box."""
    result: Reals = precisions.mean(axis=-2)
    return result


def class_ap50(precisions: Reals) -> Reals:
    """Returns the average precision of each class at an IoU of .5, of `[..., T, K]`: `[..., K]`."""
    return precisions[..., 0, :]


def _right(overlaps: Reals) -> NDArray[np.bool_]:
    """Returns which detections get a true box at each threshold, bool `[T, D]`; IoU `[D, G]`, highest score first."""
    least = np.minimum(IOU_THRESHOLDS, 1 - _ROUNDING)[:, None]
    right: NDArray[np.bool_] = np.zeros((len(least), len(overlaps)), dtype=np.bool_)
    free = np.ones((len(least), overlaps.shape[1]), dtype=np.bool_)
    for detection, row in enumerate(overlaps):
        allowed = free & (row >= least)
        hit = np.flatnonzero(allowed.any(axis=1))
        best = np.where(allowed[hit], row, -1.0)[:, ::-1].argmax(axis=1) if len(hit) else hit
        free[hit, len(row) - 1 - best] = False
        right[hit, detection] = True
    return right


def _class_precisions(right: NDArray[np.bool_], weights: Reals, true_boxes: Reals) -> Reals:
    """Returns the average precision of one class, `[B, T]`; `right` `[T, D]`, weights `[B, D]`, true boxes `[B]`.

    Precision is highest, at a given recall, at the right detection that reaches it: wrong ones need no place in the
    curve. The recalls that a right detection is the first to reach get the highest precision from there on.
    """
    shown = weights.cumsum(axis=1)
    result: Reals = np.full((len(weights), len(right)), np.nan)
    known = true_boxes > 0
    for threshold, row in enumerate(right):
        found = weights[:, row].cumsum(axis=1)
        precision = np.divide(found, shown[:, row], out=np.zeros_like(found), where=found > 0)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        recall = np.divide(found, true_boxes[:, None], out=np.zeros_like(found), where=known[:, None])
        first = np.diff(np.searchsorted(RECALLS, recall, side="right"), axis=1, prepend=0)
        result[:, threshold] = np.where(known, (best * first).sum(axis=1) / len(RECALLS), np.nan)
    return result

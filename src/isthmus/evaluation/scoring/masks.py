"""Scores of masks: IoU, Dice and accuracy from pixel counts, and how well the boundaries match.

IoU and Dice are taken from counts summed over images, as is common for data sets of scenes (Everingham et al., IJCV
2015, "The Pascal VOC challenge: a retrospective"): a mean over images would let a class that few images hold weigh
more in small objects. Only the classes that occur in the truth count. Boundaries are scored by image.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt, find_objects

from isthmus.core.errors import DataError
from isthmus.data.masks import IGNORED, Mask
from isthmus.evaluation.metrics import Reals

Counts = NDArray[np.int64]
TOLERANCE = 2.0  # [pixel]


def confusions(predicted: Mask, truth: Mask, classes: int) -> Counts:
    """Returns the pixels of each image by true and predicted class, int64 `[N, K, K]`, rows true, columns predicted.

    Args:
        predicted: uint8 `[N, H, W]`, values 0 to K - 1.
        truth: uint8 `[N, H, W]`, values 0 to K - 1, or 255 where a pixel is not scored.
        classes: K.

    Raises:
        DataError: the masks differ in shape, or hold values that are no class.

    >>> confusions(np.uint8([[[0, 1, 1]]]), np.uint8([[[0, 0, 255]]]), 2).tolist()
    [[[1, 1], [0, 0]]]
    """
    _check(predicted, truth, classes)
    counts = np.zeros((len(truth), classes, classes), dtype=np.int64)
    for image, (answer, mask) in enumerate(zip(predicted, truth, strict=True)):
        scored = mask != IGNORED
        pairs = mask[scored].astype(np.int64) * classes + answer[scored]
        counts[image] = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    return counts


def class_iou(counts: NDArray[Any]) -> Reals:
    """Returns the intersection over union of each class, `[..., K]`; NaN for a class that the truth does not hold.

    Args:
        counts: `[..., K, K]`, pixels, rows true, columns predicted.

    >>> class_iou(np.array([[3, 1], [0, 0]])).tolist()
    [0.75, nan]
    """
    right, true, shown = _marginals(counts)
    return _ratio(right, true + shown - right, true > 0)


def class_dice(counts: NDArray[Any]) -> Reals:
    """Returns the Dice score (F1 of pixels) of each class, `[..., K]`; NaN for a class that the truth does not hold.

    >>> class_dice(np.array([[2, 2], [0, 1]])).round(3).tolist()
    [0.667, 0.5]
    """
    right, true, shown = _marginals(counts)
    return _ratio(2 * right, true + shown, true > 0)


def mean_iou(counts: NDArray[Any]) -> Reals:
    """Returns the mean IoU over the classes that occur in the truth, of counts `[..., K, K]`: `[...]`.

    >>> float(mean_iou(np.array([[2, 2], [0, 2]])))
    0.5
    """
    return mean_defined(class_iou(counts))


def dice(counts: NDArray[Any]) -> Reals:
    """Returns the mean Dice score over the classes that occur in the truth, of counts `[..., K, K]`: `[...]`."""
    return mean_defined(class_dice(counts))


def pixel_accuracy(counts: NDArray[Any]) -> Reals:
    """Returns the share of scored pixels whose class is right, of counts `[..., K, K]`: `[...]`.

    >>> float(pixel_accuracy(np.array([[2, 2], [0, 4]])))
    0.75
    """
    right, true, _ = _marginals(counts)
    total = true.sum(axis=-1)
    return _ratio(right.sum(axis=-1), total, total > 0)


def resampled_counts(counts: Counts, weights: Reals) -> Reals:
    """Returns the counts `[R, N, K, K]` summed over the images of each resample: float64 `[resamples, R, K, K]`.

    Args:
        counts: int64, R seeds.
        weights: `[resamples, N]`, how often each image is in each resample (`metrics.group_weights`).
    """
    seeds, images, classes, _ = counts.shape
    rows = counts.reshape(seeds, images, classes * classes).astype(np.float64)
    summed: Reals = np.einsum(
        "bn,rnk->brk", weights, rows, optimize=True
    )  # optimize: a matrix product, 50 times faster
    return summed.reshape(len(weights), seeds, classes, classes)


def resampled(score: Callable[[NDArray[Any]], Reals], counts: Counts, weights: Reals) -> Reals:
    """Returns a score of each seed in each resample, `[resamples, R]`.

    Args:
        score: `mean_iou`, `dice` or `pixel_accuracy`.
        counts: int64 `[R, N, K, K]`.
        weights: `[resamples, N]`.
    """
    return score(resampled_counts(counts, weights))


def boundary_scores(predicted: Mask, truth: Mask, classes: int, tolerance: float = TOLERANCE) -> Reals:
    """Returns how well the boundary of each class matches in each image, float64 `[N, K]`; NaN where undefined.

    Normalised surface Dice (Nikolov et al., Journal of Medical Internet Research 2021, https://arxiv.org/abs/1809.04430,
    with boundaries as edge pixels like Seidlitz et al., Medical Image Analysis 2022, https://arxiv.org/abs/2111.05408):
    the share of the edge pixels of both masks that are within `tolerance` of an edge pixel of the other. A pixel
    is on the edge of a class if one of its four neighbours is of another class or it lies at the frame of the image.

    With pixels that are not scored, an edge pixel counts only if every pixel within `tolerance` + 1 of it is scored:
    nearer to them, the edge that it belongs to may lie among pixels whose class is unknown. So the outline of an
    annotated area is no boundary, and a score is NaN where the truth has no edge pixel that counts.

    Args:
        predicted: uint8 `[N, H, W]`, values 0 to K - 1.
        truth: uint8 `[N, H, W]`, values 0 to K - 1, or 255 where a pixel is not scored.
        classes: K.
        tolerance: largest distance of matching edge pixels [pixel].

    Raises:
        DataError: the masks differ in shape, or hold values that are no class.
    """
    _check(predicted, truth, classes)
    scores: Reals = np.full((len(truth), classes), np.nan)
    for image, (answer, mask) in enumerate(zip(predicted, truth, strict=True)):
        scored = mask != IGNORED
        counted = scored if scored.all() else distance_transform_edt(scored) > tolerance + 1
        for k in np.unique(mask[scored]):
            scores[image, k] = _surface_dice(answer == k, mask == k, counted, tolerance)
    return scores


def class_boundary(boundaries: Reals, weights: Reals) -> Reals:
    """Returns the boundary score of each class in each resample, the weighted mean over images: `[resamples, R, K]`.

    Args:
        boundaries: float64 `[R, N, K]` of `boundary_scores`; images where a class has none are left out of its mean.
        weights: `[resamples, N]`; ones for the score of all images.

    >>> class_boundary(np.array([[[0.5], [np.nan], [1.0]]]), np.array([[3.0, 5.0, 1.0]])).tolist()
    [[[0.625]]]
    """
    defined = ~np.isnan(boundaries)
    total = np.einsum("bn,rnk->brk", weights, np.where(defined, boundaries, 0.0), optimize=True)
    drawn = np.einsum("bn,rnk->brk", weights, defined.astype(np.float64), optimize=True)
    return _ratio(total, drawn, drawn > 0)


def resampled_boundary(boundaries: Reals, weights: Reals) -> Reals:
    """Returns the boundary score of each seed in each resample, the mean over classes: `[resamples, R]`.

    A class that no image of a resample has is left out of that resample's mean.
    """
    return mean_defined(class_boundary(boundaries, weights))


def mean_defined(values: Reals) -> Reals:
    """Returns the mean of the last axis over the values that are not NaN; NaN where all are.

    >>> mean_defined(np.array([[0.5, np.nan], [np.nan, np.nan]])).tolist()
    [0.5, nan]
    """
    defined = ~np.isnan(values)
    count = defined.sum(axis=-1)
    return _ratio(np.where(defined, values, 0.0).sum(axis=-1), count, count > 0)


def _check(predicted: Mask, truth: Mask, classes: int) -> None:
    if predicted.shape != truth.shape:
        raise DataError(
            f"predicted masks are {list(predicted.shape)}, true ones {list(truth.shape)}: they must be alike"
        )
    for name, masks in (("predicted", predicted), ("true", truth)):
        scored = masks[truth != IGNORED]
        if scored.size and scored.max() >= classes:
            raise DataError(
                f"a {name} mask holds the value {scored.max()}: allowed are 0 to {classes - 1}, "
                f"and {IGNORED} in the truth for pixels that are not scored"
            )


def _surface_dice(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], counted: NDArray[np.bool_], tolerance: float
) -> float:
    box = find_objects((predicted | truth).view(np.uint8))[0]  # distances outside of it are not asked for
    shown, true = (_edge(mask[box]) for mask in (predicted, truth))
    shown_counted, true_counted = shown & counted[box], true & counted[box]
    if not true_counted.any():
        return np.nan
    near = _count_near(shown_counted, true, tolerance) + _count_near(true_counted, shown, tolerance)
    return near / int(shown_counted.sum() + true_counted.sum())


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    edge: NDArray[np.bool_] = mask & ~binary_erosion(mask)
    return edge


def _count_near(edge: NDArray[np.bool_], other: NDArray[np.bool_], tolerance: float) -> int:
    if not other.any():  # the distance to nothing is not defined
        return 0
    return int((distance_transform_edt(~other)[edge] <= tolerance).sum())


def _marginals(counts: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    return np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1), counts.sum(axis=-2)


def _ratio(over: NDArray[Any], under: NDArray[Any], defined: NDArray[np.bool_]) -> Reals:
    result: Reals = np.divide(over, under, out=np.full(np.shape(over), np.nan), where=defined)
    return result

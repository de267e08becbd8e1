"""Sets of classes that hold the true one with a chosen probability, and when to leave an image to a person.

Split conformal prediction (Vovk, Gammerman & Shafer, 2005; Angelopoulos & Bates, 2023,
https://arxiv.org/abs/2107.07511): the scores of `cal` images, which nothing was trained or chosen on, say how unlike
the truth an answer may look. Coverage is promised for new images of the source, in the mean over draws of `cal`: with
60 images there a single draw is off by 4 points (standard deviation). On the target it holds only under covariate shift
with the right weights (Tibshirani, Barber, Candes & Ramdas, NeurIPS 2019); where target labels exist, `truth.json` says
what it was.
"""

from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from isthmus.evaluation.metrics import Predictions, Reals

Score = Literal["lac", "aps"]
_EDGE = 1e-9  # rounding of sums of weights


class SetSizes(TypedDict):
    """What the sets are like without knowing the truth, [share] but for `mean_size` [class]."""

    mean_size: float
    answered: float
    empty: float


def scores(probabilities: Reals, kind: Score, seed: int) -> Reals:
    """Returns how unlike each class looks, `[N, K]`; higher is less likely.

    `lac`: 1 - p_k, the smallest sets on average (Sadinle, Lei & Wasserman, JASA 2019); an image unlike all classes
    gets an empty set. `aps`: the mass of the classes above k plus a random part of p_k (Romano, Sesia & Candes,
    NeurIPS 2020): larger sets where the model is unsure. Without the random part its coverage is far above nominal.

    >>> scores(np.array([[0.75, 0.25]]), "lac", 0).tolist()
    [[0.25, 0.75]]
    """
    if kind == "lac":
        result: Reals = 1.0 - probabilities
        return result
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1)
    part = np.random.default_rng(seed).random((len(probabilities), 1))
    above = ranked.cumsum(axis=1) - ranked + part * ranked
    back: Reals = np.empty_like(above)
    np.put_along_axis(back, order, above, axis=1)
    return back


def thresholds(calibration: Reals, weights: Reals, own_weight: Reals, coverage: float) -> Reals:
    """Returns the largest score a class of each new image may have, `[T]`.

    The `coverage` quantile of the weighted scores with the new image's own weight at infinity (Tibshirani et al. 2019,
    equation 7). With equal weights it is the ceil((n + 1) coverage)-th smallest of n scores. Infinite where the
    calibration images cannot bear that coverage: then every class is in the set.

    Args:
        calibration: float64 `[n]`, scores of the true classes of the calibration images.
        weights: float64 `[n]`, of the calibration images; ones for plain split conformal.
        own_weight: float64 `[T]`, of the new images.
        coverage: [share].

    >>> thresholds(np.array([0.1, 0.2, 0.3]), np.ones(3), np.ones(1), 0.75).tolist()
    [0.3]
    """
    order = np.argsort(calibration, kind="stable")
    mass = weights[order].cumsum()
    needed = coverage * (mass[-1] + own_weight)
    place = np.searchsorted(mass, needed - _EDGE, side="left")
    result: Reals = np.append(calibration[order], np.inf)[place]
    return result


def prediction_sets(
    calibration: Reals,
    labels: Predictions,
    new: Reals,
    coverage: float,
    weights: Reals | None = None,
    own_weight: Reals | None = None,
) -> NDArray[np.bool_]:
    """Returns which classes are in the set of each new image, `[T, K]`.

    Args:
        calibration: float64 `[n, K]`, `scores` of the calibration images.
        labels: int64 `[n]`, their classes.
        new: float64 `[T, K]`, `scores` of the new images.
        coverage: [share] of new images whose set shall hold the truth.
        weights: float64 `[n]`; None for plain split conformal.
        own_weight: float64 `[T]`; with `weights` only.
    """
    mine = calibration[np.arange(len(labels)), labels]
    share = np.ones(len(mine)) if weights is None else weights
    own = np.ones(len(new)) if own_weight is None else own_weight
    result: NDArray[np.bool_] = new <= thresholds(mine, share, own, coverage)[:, None]
    return result


def covered(sets: NDArray[np.bool_], labels: Predictions) -> NDArray[np.bool_]:
    """Returns whether each set holds the true class, `[N]`."""
    result: NDArray[np.bool_] = sets[np.arange(len(labels)), labels]
    return result


def answered(sets: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns which images get an answer: those whose set is one class. The others are left to a person.

    >>> answered(np.array([[True, False], [True, True], [False, False]])).tolist()
    [True, False, False]
    """
    result: NDArray[np.bool_] = sets.sum(axis=1) == 1
    return result


def set_sizes(sets: NDArray[np.bool_]) -> SetSizes:
    """Returns the mean size, and the shares of images that are answered and that no class fits."""
    size = sets.sum(axis=1)
    return {
        "mean_size": float(size.mean()),
        "answered": float((size == 1).mean()),
        "empty": float((size == 0).mean()),
    }

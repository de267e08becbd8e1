"""Makes probabilities mean what they say: temperature, calibration error, and weights that stand for the target.

All take logits `[N, K]` or confidences `[N]` of images that were not trained on. What is fitted on source images
holds on the target only as far as p(class | image) is the same there and the weights can bridge the rest: with few
effective images (`effective_count`) they cannot, and the caller must say so.
"""

from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from isthmus.evaluation.metrics import Predictions, Reals, interval

BINS = 10  # of equal count; ECE depends on the number, so it is stated wherever ECE is
MOST_WEIGHT = 10.0  # times the mean: one image may not speak for more than these
COMPONENTS = 16  # principal components that the domain classifier sees: few images cannot bear more
_LOG_TEMPERATURE = (-3.0, 3.0)  # 0.05 to 20: a wider search only finds models that are always or never sure
_CHANCE_DRAWS = 200


class Bin(TypedDict):
    """One bin of a reliability diagram: mean confidence and share of right answers, [share]."""

    count: int
    confidence: float
    accuracy: float


class CalibrationError(TypedDict):
    """ECE with its interval, and what a perfectly calibrated model would show on so few images."""

    ece: float
    low: float
    high: float
    by_chance: float


@dataclass(frozen=True)
class DomainWeights:
    """How much each source image stands for the target, mean 1.

    Attributes:
        source: float64 `[S]`, of the source images.
        target: float64 `[T]`, the same ratio at the target images (a conformal test point needs its own).
        separability: AUC of the domain classifier on images it was not fitted on; 0.5: the domains look the same.
    """

    source: Reals
    target: Reals
    separability: float


def fit_temperature(logits: NDArray[Any], labels: Predictions, weights: Reals | None = None) -> float:
    """Returns the temperature T > 0 that minimises the (weighted) negative log-likelihood of softmax(logits / T).

    Guo, Pleiss, Sun & Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section 4.2
    (https://arxiv.org/abs/1706.04599). With importance weights it is the estimate for the target under covariate shift:
    Park, Bastani, Weimer & Lee, "Calibrated Prediction with Covariate Shift", AISTATS 2020. T is kept in [0.05, 20].

    The true class counts 1 - 1/(n + 2), the others share the rest (Platt, 1999): where all n images are right, plain
    likelihood would call any answer certain (T 0.07 on the simulated industrial pair, 66 images), which n cannot show.

    >>> fit_temperature(np.array([[8.0, 0.0], [8.0, 0.0], [8.0, 0.0], [8.0, 0.0]]), np.array([0, 0, 0, 1])) > 5
    True
    """
    share = np.ones(len(labels)) if weights is None else weights
    doubt = 1 / (effective_count(share) + 2)
    values = np.asarray(logits, dtype=np.float64)
    wanted = np.full(values.shape, doubt / max(values.shape[1] - 1, 1))
    wanted[np.arange(len(labels)), labels] = 1 - doubt

    def loss(log_temperature: float) -> float:
        likely = (wanted * log_softmax(values / np.exp(log_temperature), axis=1)).sum(axis=1)
        return float(-(share * likely).sum() / share.sum())

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_TEMPERATURE, method="bounded").x))


def bins_of(confidence: Reals, bins: int = BINS) -> Predictions:
    """Returns the bin of each confidence: `bins` of equal count, by rank, equal values in one bin.

    >>> bins_of(np.array([0.9, 0.1, 0.5, 0.5]), 2).tolist()
    [1, 0, 0, 0]
    """
    ranks = np.searchsorted(np.sort(confidence), confidence, side="left")
    result: Predictions = (ranks * bins // max(len(confidence), 1)).astype(np.int64)
    return result


def reliability(confidence: Reals, right: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """Returns the bins that hold an image, least sure first (DeGroot & Fienberg, The Statistician 1983)."""
    place = bins_of(confidence, bins)
    return [
        {
            "count": int((place == b).sum()),
            "confidence": float(confidence[place == b].mean()),
            "accuracy": float(right[place == b].mean()),
        }
        for b in np.unique(place)
    ]


def calibration_error(
    confidence: Reals, right: NDArray[np.bool_], drawn: Reals, seed: int, bins: int = BINS
) -> CalibrationError:
    """Returns the expected calibration error over bins of equal count, with an interval.

    ECE = sum_b n_b / N |accuracy_b - confidence_b| (Guo et al. 2017, equation 3, there with bins of equal width).
    ECE is biased upwards, the more the fewer images a bin has (Kumar, Liang & Ma, NeurIPS 2019), and resampling adds
    the bias once more: the interval is therefore the basic bootstrap one, 2 ECE - quantiles, cut at 0. `by_chance`
    is the mean ECE of a perfectly calibrated model with these very confidences: below about that nothing is shown.

    Args:
        confidence: float64 `[N]`, probability of the predicted class.
        right: bool `[N]`.
        drawn: float64 `[resamples, N]`, from `metrics.group_weights`.
        seed: of the draws of `by_chance`.
        bins: number of bins.
    """
    place = bins_of(confidence, bins)
    member = np.eye(bins)[place]  # [N, bins]
    gap = (right - confidence)[:, None] * member
    ece = float(np.abs(gap.sum(axis=0)).sum() / len(right))
    resampled = np.abs(drawn @ gap).sum(axis=1) / drawn.sum(axis=1)
    low, high = interval(resampled)
    rng = np.random.default_rng(seed)
    chance = rng.random((_CHANCE_DRAWS, len(right))) < confidence
    null = np.abs((chance - confidence) @ member).sum(axis=1) / len(right)
    return {
        "ece": ece,
        "low": float(np.clip(2 * ece - high, 0.0, ece)),
        "high": float(np.clip(2 * ece - low, ece, 1.0)),
        "by_chance": float(null.mean()),
    }


def domain_weights(
    source_fit: NDArray[Any], target_fit: NDArray[Any], source: NDArray[Any], target: NDArray[Any]
) -> DomainWeights:
    """Returns p(target | x) / p(source | x) of `source` and `target`, from a logistic regression on the `_fit` images.

    Density ratio by a probabilistic classifier: Bickel, Brueckner & Scheffer, "Discriminative Learning Under Covariate
    Shift", JMLR 2009; the classes are weighted equally, so that the ratio needs no correction for the number of images.
    The ratio is scaled to mean 1 over `source` and clipped at `MOST_WEIGHT` times the mean, which trades a little bias
    for much variance. The fit and the weighted images are different ones: a ratio is too sure on what it was fitted on.

    Args:
        source_fit: `[A, B]` embeddings of source images.
        target_fit: `[C, B]` embeddings of target images, no label.
        source: `[S, B]` of the source images to weigh.
        target: `[T, B]` of the target images to weigh.
    """
    from sklearn.linear_model import LogisticRegression  # a second of start-up that reports do without

    fit = np.concatenate([source_fit, target_fit]).astype(np.float64)
    centre, spread = fit.mean(axis=0), fit.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    _, size, axes = np.linalg.svd((fit - centre) / scale, full_matrices=False)
    used = size[:COMPONENTS] > 1e-9 * max(1.0, float(size[0]))
    # Whitened, so that the penalty treats each component alike.
    project = (axes[:COMPONENTS][used] / size[:COMPONENTS][used, None]).T * np.sqrt(len(fit))

    def seen(rows: NDArray[Any]) -> Reals:
        # One constant column more: without any spread there is still something to fit.
        return np.column_stack([(rows - centre) / scale @ project, np.zeros(len(rows))])

    domain = np.repeat([0, 1], [len(source_fit), len(target_fit)])
    model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(seen(fit), domain)
    odds = [np.exp(np.clip(model.decision_function(seen(rows)), -30, 30)) for rows in (source, target)]
    mean = odds[0].mean()
    clipped = [np.minimum(values / mean, MOST_WEIGHT) for values in odds]
    return DomainWeights(clipped[0] / clipped[0].mean(), clipped[1] / clipped[0].mean(), _auc(odds[0], odds[1]))


def effective_count(weights: Reals) -> float:
    """Returns Kish's effective number of images, (sum w)^2 / sum w^2: what an average over weighted images is worth.

    >>> effective_count(np.array([1.0, 1.0, 0.0, 0.0]))
    2.0
    """
    return float(weights.sum() ** 2 / (weights**2).sum())


def _auc(source: Reals, target: Reals) -> float:
    # Share of pairs in which the target image looks more like the target; ties count half (Mann & Whitney 1947).
    below, upto = (np.searchsorted(np.sort(source), target, side=side).mean() for side in ("left", "right"))
    return float((below + upto) / 2 / len(source))

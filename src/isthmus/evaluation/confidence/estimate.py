"""Estimates the accuracy on the target without its labels, or says that it cannot be told, and why.

Each estimator is the mean of one value a target image, so that all are resampled alike, by group:

- `atc`: the share of images whose certainty reaches a value that, on the source, is reached by a share of images equal
  to the accuracy there. Garg et al., "Leveraging Unlabeled Data to Predict Out-of-Distribution Performance", ICLR 2022,
  equation 2, with negative entropy. Known failure: near 100% on the source the threshold rests on a few images.
- `doc`: source accuracy less the drop of mean confidence. Guillory et al., "Predicting with Confidence on Unseen
  Distributions", ICCV 2021. Known failure: a model can stay as sure as it was and be wrong.
- `seeds`: agreement of runs that differ in the seed. Jiang et al., "Assessing Generalization of SGD via Disagreement",
  ICLR 2022. Known failure: on frozen features runs are wrong together.
- `transport`: one less half the L1 cost of carrying the predicted probabilities to one-hot labels with the class shares
  of the source. Lu et al., "Characterizing Out-of-Distribution Error via Optimal Transport", NeurIPS 2023, equation 5.
  Known failure: other class shares on the target count as errors.
- `methods`: agreement with the other preferred methods, or with all others where there are none; of the half step with
  source-only (`trust.py`). Each would have to make the same mistake (after Chen et al., "Detecting Errors and
  Estimating Accuracy on Unlabeled Data with Self-training Ensembles", NeurIPS 2021).
- `second`: agreement with what hand-made descriptors say of the images (`second_view.py`). Platanios, Blum & Mitchell,
  "Estimating Accuracy from Unlabeled Data", UAI 2014. Known failure: where descriptors cannot tell the classes apart, a
  right model is told too low.

The estimate is a line through `methods`, `doc` and `second` in log-odds, fitted to true accuracies of development
pairs, simulated and real shifts weighing alike, as Deng & Zheng, "Are Labels Always Necessary for Classifier Accuracy
Evaluation?" (AutoEval), CVPR 2021, and Guillory et al. fit theirs; its reach is wide enough for 80% of all models on
real pairs, each told by a line and a reach without its scenario (`benchmarks/estimate_fit.py`,
docs/decisions/0010-estimated-accuracy.md). What the line does not take is shown beside it. Known failure: methods
whose mistakes are independent agree less than they are right, and are told too low (.61 for .82 on simulated logits);
and classes that mean something else on the target (another catalogue of defects) are wrong in every view alike.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import linprog
from scipy.sparse import coo_array
from scipy.special import expit, logit

from isthmus.core.config import Config
from isthmus.evaluation.calibration import fit_temperature
from isthmus.evaluation.metrics import Predictions, Reals, entropy, interval
from isthmus.evaluation.validators import softmax

NAMES = ("atc", "doc", "seeds", "transport", "methods", "second")
_SURE = 0.02  # shares are cut to [0.02, 0.98]: a few images cannot show more, and log-odds of 0 and 1 are infinite
MOST_CARRIED = 2000  # [image] that `transport` looks at: the first in the order of ids, which are hashes


@dataclass(frozen=True)
class Line:
    """A fitted line in log-odds.

    Attributes:
        weights: estimator -> log-odds of the accuracy for one of the estimator's.
        intercept: log-odds.
        reach: log-odds each way, with which 80% of all models on real pairs lie inside, their scenario left out.
    """

    weights: Mapping[str, float]
    intercept: float
    reach: float


SHIPPED = Line({"methods": 0.59, "doc": 0.09, "second": 0.43}, -0.49, 0.54)


class EstimateLimits(Config):
    """Beyond these the answer is 'cannot tell'."""

    min_method_agreement: float = Field(
        0.7, ge=0, le=1, description="[share] of target images on which the other methods that are asked agree"
    )
    max_width: float = Field(0.5, gt=0, le=1, description="[share] of accuracy that the interval may span")


class Part(TypedDict):
    """What one estimator says, mean over seeds, with its own 95% bootstrap interval."""

    mean: float
    low: float
    high: float


class Estimate(TypedDict):
    """`accuracy`, `low` and `high` are None where it cannot be told; the parts are there all the same."""

    accuracy: float | None
    low: float | None
    high: float | None
    cannot_tell: list[str]
    parts: dict[str, Part]


@dataclass(frozen=True)
class Views:
    """What is seen of one model: labelled source images it was not trained on, and target images without labels.

    Attributes:
        source_logits: `[R, S, K]`, one plane a seed.
        source_labels: int64 `[S]`.
        target_logits: `[R, T, K]`.
        others: other method that is asked -> its target predictions, int64 `[R', T]`.
        second: int64 `[T]`, what the second view says of the target images.
    """

    source_logits: NDArray[Any]
    source_labels: Predictions
    target_logits: NDArray[Any]
    others: Mapping[str, Predictions]
    second: Predictions


def estimate_accuracy(views: Views, drawn: Reals, limits: EstimateLimits, line: Line = SHIPPED) -> Estimate:
    """Returns the estimate with its interval, mean over seeds.

    The interval is the estimate plus and minus the line's reach in log-odds, widened in squares by half the bootstrap
    interval over groups of target images. On real pairs 80% of the errors kept to the reach, each told by a fit without
    its scenario; it is not a proof: all views can be wrong together.

    Args:
        views: the model.
        drawn: float64 `[resamples, T]`, from `metrics.group_weights` over the target images.
        limits: beyond which nothing is said.
        line: that is followed.
    """
    values = {name: rows.mean(axis=0) for name, rows in estimators(views).items()}
    parts = {name: _part(row, drawn) for name, row in values.items()}
    reasons = _reasons(parts, limits)
    centre, low, high = 0.0, 0.0, 1.0
    if line.weights.keys() <= parts.keys():
        centre = float(_on(line, {name: values[name].mean() for name in line.weights}))
        resampled = interval(_on(line, {name: drawn @ values[name] / drawn.sum(axis=1) for name in line.weights}))
        reach = float(np.hypot(line.reach, (resampled[1] - resampled[0]) / 2))
        centre, low, high = (float(expit(odds)) for odds in (centre, centre - reach, centre + reach))
        # Shares beyond the cut are not told apart, so an end that reaches it is open.
        low, high = (0.0 if low <= _SURE else low), (1.0 if high >= 1 - _SURE else high)
        if high - low > limits.max_width:
            reasons.append(
                f"the interval would span {100 * (high - low):.0f} points, over {100 * limits.max_width:.0f}: there are"
                " too few images, or the model is too unsure"
            )
    known = not reasons
    return {
        "accuracy": centre if known else None,
        "low": low if known else None,
        "high": high if known else None,
        "cannot_tell": reasons,
        "parts": parts,
    }


def log_odds(share: Any) -> Any:
    """Returns log(p / (1 - p)) of shares, cut to [0.02, 0.98].

    >>> float(log_odds(0.5))
    0.0
    """
    return logit(np.clip(share, _SURE, 1 - _SURE))


def _on(line: Line, told: Mapping[str, Any]) -> Any:
    return line.intercept + sum(weight * log_odds(told[name]) for name, weight in line.weights.items())


def _reasons(parts: Mapping[str, Part], limits: EstimateLimits) -> list[str]:
    if "methods" not in parts:
        return ["no other adapted method passed the guards, so no second opinion on the target images exists"]
    if (agreed := parts["methods"]["mean"]) < limits.min_method_agreement:
        return [
            f"other methods agree with it on {agreed:.0%} of the target images, under"
            f" {limits.min_method_agreement:.0%}: at least one of them is wrong on the rest, and nothing says which"
        ]
    return []


def estimators(views: Views, only: Collection[str] = NAMES) -> dict[str, Reals]:
    """Returns estimator -> float64 `[R, T]`, whose mean over T is the estimate of a seed.

    Args:
        views: the model.
        only: names of the estimators that are asked for; `transport` is by far the slowest.
    """
    found: dict[str, list[Reals]] = {name: [] for name in NAMES}
    predicted = views.target_logits.argmax(axis=2)
    shares = np.bincount(views.source_labels, minlength=views.source_logits.shape[2]) / len(views.source_labels)
    for seed, (source, target) in enumerate(zip(views.source_logits, views.target_logits, strict=True)):
        temperature = fit_temperature(source, views.source_labels)
        sure, unsure = softmax(source / temperature), softmax(target / temperature)
        right = float((source.argmax(axis=1) == views.source_labels).mean())
        found["atc"].append((-entropy(unsure) >= np.quantile(-entropy(sure), 1 - right)).astype(np.float64))
        found["doc"].append(right - float(sure.max(axis=1).mean()) + unsure.max(axis=1))
        if "transport" in only:
            found["transport"].append(transported(unsure, shares))
        others = [row for number, row in enumerate(predicted) if number != seed]
        if others:
            found["seeds"].append(np.mean([row == predicted[seed] for row in others], axis=0))
        if views.others:
            agreed = [(rows == predicted[seed]).mean(axis=0) for rows in views.others.values()]
            found["methods"].append(np.mean(agreed, axis=0))
        found["second"].append((views.second == predicted[seed]).astype(np.float64))
    return {name: np.stack(rows) for name, rows in found.items() if rows and name in only}


def transported(probabilities: Reals, shares: Reals) -> Reals:
    """Returns a value for each image, `[T]`, whose mean is one less the optimal transport cost to the class shares.

    The cost of giving image t class k is 1 - p_tk, which is half the L1 distance of p_t to the one-hot label. The
    values come from the dual solution, so that a resample's mean is right to first order without solving it again.
    Beyond `MOST_CARRIED` images the class prices of the first ones serve for all.

    >>> float(transported(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0.5, 0.5])).mean())
    0.5
    """
    used = probabilities[:MOST_CARRIED]
    count, classes = used.shape
    cells = np.arange(count * classes)
    by_image = coo_array((np.ones(len(cells)), (cells // classes, cells)))
    by_class = coo_array((np.ones(len(cells)), (cells % classes, cells)))
    rows = np.concatenate([by_image.row, count + by_class.row])
    matrix = coo_array((np.ones(2 * len(cells)), (rows, np.concatenate([cells, cells])))).tocsr()
    limits = np.concatenate([np.full(count, 1 / count), shares])
    solved = linprog((1 - used).ravel(), A_eq=matrix, b_eq=limits, method="highs")
    assert solved.status == 0, solved.message  # both sides sum to one and costs are finite: a plan always exists
    prices = solved.eqlin.marginals[count:]
    cheapest = (1 - probabilities - prices).min(axis=1)
    result: Reals = 1 - cheapest - float(prices @ shares)
    return result


def _part(values: Reals, drawn: Reals) -> Part:
    low, high = interval(drawn @ values / drawn.sum(axis=1))
    return {"mean": float(values.mean()), "low": low, "high": high}

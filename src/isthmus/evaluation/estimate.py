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
- `methods`: agreement with the other adapted methods, each of which would have to make the same mistake (after Chen et
  al., "Detecting Errors and Estimating Accuracy on Unlabeled Data with Self-training Ensembles", NeurIPS 2021).

The estimate is the mean of `transport` and `methods`; the others count in its interval. This, and the limits below
which nothing is said, were settled on development pairs alone (docs/decisions/0010-estimated-accuracy.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.optimize import linprog
from scipy.sparse import coo_array

from isthmus.core.config import Config
from isthmus.evaluation.calibration import fit_temperature
from isthmus.evaluation.metrics import Predictions, Reals, entropy, interval
from isthmus.evaluation.validators import softmax

CENTRAL = ("transport", "methods")  # their mean is the estimate
LEAST_REACH = 0.05  # [share] each way: the mean error on development pairs was 0.03 where something was told
MOST_CARRIED = 2000  # [image] that `transport` looks at: the first in the order of ids, which are hashes


class EstimateLimits(Config):
    """Beyond these the answer is 'cannot tell'."""

    min_method_agreement: float = Field(
        0.84, ge=0, le=1, description="[share] of target images on which the other adapted methods agree"
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
        others: other adapted method that may be chosen -> its target predictions, int64 `[R', T]`.
    """

    source_logits: NDArray[Any]
    source_labels: Predictions
    target_logits: NDArray[Any]
    others: Mapping[str, Predictions]


def estimate_accuracy(views: Views, drawn: Reals, limits: EstimateLimits) -> Estimate:
    """Returns the estimate with its interval, mean over seeds.

    The interval is the estimate plus and minus sqrt(b^2 + s^2 + r^2), cut to [0, 1]: b half the 95% bootstrap interval
    over groups of target images, s the standard deviation between the estimators, r the one between seeds; never less
    than `LEAST_REACH`. It is a rule that held on development pairs, not a proof: all estimators can be wrong together,
    which `cannot_tell` is there for.

    Args:
        views: the model.
        drawn: float64 `[resamples, T]`, from `metrics.group_weights` over the target images.
        limits: beyond which nothing is said.
    """
    values = _values(views)
    parts = {name: _part(rows.mean(axis=0), drawn) for name, rows in values.items()}
    central = np.stack([values[name] for name in CENTRAL if name in values]).mean(axis=0)  # [R, T]
    centre = _part(central.mean(axis=0), drawn)
    half = (centre["high"] - centre["low"]) / 2
    spread = float(np.std([part["mean"] for part in parts.values()], ddof=1))
    seeds = float(np.std(central.mean(axis=1), ddof=1)) if len(central) > 1 else 0.0
    reach = max(LEAST_REACH, float(np.sqrt(half**2 + spread**2 + seeds**2)))
    low, high = max(0.0, centre["mean"] - reach), min(1.0, centre["mean"] + reach)
    reasons = _reasons(parts, high - low, limits)
    known = not reasons
    return {
        "accuracy": centre["mean"] if known else None,
        "low": low if known else None,
        "high": high if known else None,
        "cannot_tell": reasons,
        "parts": parts,
    }


def _reasons(parts: Mapping[str, Part], width: float, limits: EstimateLimits) -> list[str]:
    reasons = []
    if "methods" not in parts:
        reasons.append("no other adapted method passed the guards, so no second opinion on the target images exists")
    elif (agreed := parts["methods"]["mean"]) < limits.min_method_agreement:
        reasons.append(
            f"other adapted methods agree with it on {agreed:.0%} of the target images, under"
            f" {limits.min_method_agreement:.0%}: at least one of them is wrong on the rest, and nothing says which"
        )
    if width > limits.max_width:
        reasons.append(
            f"the interval would span {100 * width:.0f} points, over {100 * limits.max_width:.0f}: the estimators do"
            " not agree"
        )
    return reasons


def _values(views: Views) -> dict[str, Reals]:
    """Returns estimator -> float64 `[R, T]`, whose mean over T is the estimate of a seed."""
    found: dict[str, list[Reals]] = {"atc": [], "doc": [], "seeds": [], "transport": [], "methods": []}
    predicted = views.target_logits.argmax(axis=2)
    shares = np.bincount(views.source_labels, minlength=views.source_logits.shape[2]) / len(views.source_labels)
    for seed, (source, target) in enumerate(zip(views.source_logits, views.target_logits, strict=True)):
        temperature = fit_temperature(source, views.source_labels)
        sure, unsure = softmax(source / temperature), softmax(target / temperature)
        right = float((source.argmax(axis=1) == views.source_labels).mean())
        found["atc"].append((-entropy(unsure) >= np.quantile(-entropy(sure), 1 - right)).astype(np.float64))
        found["doc"].append(right - float(sure.max(axis=1).mean()) + unsure.max(axis=1))
        found["transport"].append(transported(unsure, shares))
        others = [row for number, row in enumerate(predicted) if number != seed]
        if others:
            found["seeds"].append(np.mean([row == predicted[seed] for row in others], axis=0))
        if views.others:
            agreed = [(rows == predicted[seed]).mean(axis=0) for rows in views.others.values()]
            found["methods"].append(np.mean(agreed, axis=0))
    return {name: np.stack(rows) for name, rows in found.items() if rows}


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

"""Estimates the accuracy on the target without its labels, or says that it cannot be told, and why.

The estimate is the share of target images on which the methods that the model averages agree, over all pairs of their
networks. Two models whose errors are nearly independent agree about as often as they are right (Platanios, Blum &
Mitchell, "Estimating Accuracy from Unlabeled Data", UAI 2014; Jiang et al., "Assessing Generalization of SGD via
Disagreement", ICLR 2022). Nothing is fitted but the interval: `reach` in `estimate.json` is the error that 85% of known
pairs keep to, with where it came from.

Shown beside it, each the mean of one value a target image:
- `atc`: Garg et al., "Leveraging Unlabeled Data to Predict Out-of-Distribution Performance", ICLR 2022, equation 2,
  with negative entropy.
- `doc`: Guillory et al., "Predicting with Confidence on Unseen Distributions", ICCV 2021: source accuracy less the drop
  of mean confidence.
- `confidence`: the mean confidence after temperature scaling.

Known failure: a class that means something else on the target is wrong in all of them alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import combinations
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from isthmus.core.config import Config
from isthmus.core.files import read_json
from isthmus.evaluation.calibration import fit_temperature
from isthmus.evaluation.metrics import Predictions, Reals, entropy, interval, softmax

_ALONE = "no average of several methods was chosen, and one method alone has no second opinion"


class EstimateLimits(Config):
    """Beyond this the answer is 'cannot tell'."""

    max_width: float = Field(0.5, gt=0, le=1, description="[share] of accuracy that the interval may span")


class Estimator(TypedDict):
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
    parts: dict[str, Estimator]


@dataclass(frozen=True)
class Views:
    """What is seen of one model: labelled source images it was not trained on, and target images without labels.

    Attributes:
        source_logits: `[R, S, K]`, one plane a seed.
        source_labels: int64 `[S]`.
        target_logits: `[R, T, K]`.
        methods: averaged method -> predictions of its networks, int64 `[R', T]`; one or none where nothing is averaged.
    """

    source_logits: NDArray[Any]
    source_labels: Predictions
    target_logits: NDArray[Any]
    methods: Mapping[str, Predictions]


@cache
def known_pairs() -> dict[str, Any]:
    """Returns what known pairs showed: `reach` [share], `holds` [share], `pairs`, `families`, `made_by`."""
    with resources.as_file(resources.files("isthmus.evaluation.confidence").joinpath("estimate.json")) as path:
        found: dict[str, Any] = read_json(path)
    return found


def left_open(groups: int) -> float:
    """Returns the share of others that groups which all agree leave open at 95%, 1 - 0.05^(1/G).

    Hanley & Lippman-Hand, "If Nothing Goes Wrong, Is Everything All Right?", JAMA 249, 1983.

    >>> round(left_open(60), 2)
    0.05
    """
    return float(1 - 0.05 ** (1 / groups))


def estimate_accuracy(views: Views, drawn: Reals, groups: int, limits: EstimateLimits) -> Estimate:
    """Returns the estimate with its interval.

    The interval is the estimate plus and minus the reach, widened in squares by half the bootstrap interval over
    groups of target images. It held on 85% of known pairs; it is not a proof. Where the methods agree on all images
    the bootstrap interval has no width: `left_open` is the least.

    Args:
        views: the model.
        drawn: float64 `[resamples, T]`, from `metrics.group_weights` over the target images.
        groups: how many units of the target images were resampled (`metrics.resampled_units`).
        limits: beyond which nothing is said.
    """
    values = {name: rows.mean(axis=0) for name, rows in estimators(views).items()}
    parts = {name: _part(row, drawn) for name, row in values.items()}
    estimate: Estimate = {"accuracy": None, "low": None, "high": None, "cannot_tell": [], "parts": parts}
    if "agreement" not in parts:
        return {**estimate, "cannot_tell": [_ALONE]}
    agreed = parts["agreement"]
    sampled = max((agreed["high"] - agreed["low"]) / 2, left_open(groups))
    reach = float(np.hypot(known_pairs()["reach"], sampled))
    low, high = max(0.0, agreed["mean"] - reach), min(1.0, agreed["mean"] + reach)
    if high - low > limits.max_width:
        reason = (
            f"the interval would span {100 * (high - low):.0f} points, over {100 * limits.max_width:.0f}: there are too"
            " few target images"
        )
        return {**estimate, "cannot_tell": [reason]}
    return {**estimate, "accuracy": agreed["mean"], "low": low, "high": high}


def estimators(views: Views) -> dict[str, Reals]:
    """Returns estimator -> float64 `[R, T]`, whose mean over T is an estimate; R: seeds, or pairs of methods."""
    found: dict[str, list[Reals]] = {name: [] for name in ("atc", "doc", "confidence")}
    for source, target in zip(views.source_logits, views.target_logits, strict=True):
        temperature = fit_temperature(source, views.source_labels)
        sure, unsure = softmax(source / temperature), softmax(target / temperature)
        right = float((source.argmax(axis=1) == views.source_labels).mean())
        found["atc"].append((-entropy(unsure) >= np.quantile(-entropy(sure), 1 - right)).astype(np.float64))
        found["doc"].append(right - float(sure.max(axis=1).mean()) + unsure.max(axis=1))
        found["confidence"].append(unsure.max(axis=1))
    rows = {name: np.stack(values) for name, values in found.items()}
    return ({"agreement": agreement(views.methods)} if len(views.methods) > 1 else {}) | rows


def agreement(methods: Mapping[str, Predictions]) -> Reals:
    """Returns for each pair of methods the share of pairs of their networks that agree on each image, `[P, T]`.

    >>> agreement({"a": np.array([[0, 1]]), "b": np.array([[0, 1], [0, 0]])}).tolist()
    [[1.0, 0.5]]
    """
    pairs = combinations(methods.values(), 2)
    return np.stack([(one[:, None] == other[None]).mean(axis=(0, 1)) for one, other in pairs])


def _part(values: Reals, drawn: Reals) -> Estimator:
    low, high = interval(drawn @ values / drawn.sum(axis=1))
    return {"mean": float(values.mean()), "low": low, "high": high}

"""The chosen model with the temperatures and weights that it is judged by, and what is promised of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from isthmus.core.config import Config
from isthmus.core.errors import DataError
from isthmus.evaluation import calibration
from isthmus.evaluation.confidence import conformal
from isthmus.evaluation.confidence.estimate import EstimateLimits
from isthmus.evaluation.metrics import Predictions, Reals, softmax
from isthmus.evaluation.trained import Samples, Trained


class TrustConfig(Config):
    """What is promised, and what must be there for a promise."""

    bootstrap: int = Field(1000, ge=100, description="resamples, by group, for every interval")
    coverage: float = Field(0.9, gt=0, lt=1, description="[share] of images whose set of classes shall hold the truth")
    conformal_score: conformal.Score = Field("lac", description="lac: smallest sets; aps: larger where it is unsure")
    min_effective_count: float = Field(
        30, ge=1, description="[image] that the weighted `cal` images must be worth before weights are used at all"
    )
    estimate: EstimateLimits = EstimateLimits()


@dataclass(frozen=True)
class Judged:
    """The shipped seed of the chosen model, ready to be judged; rows of `cal`, of source test and of target test.

    Attributes:
        logits: float32 `[R, N, K]`, one plane a seed, the shipped one at `shipped`.
        seed: the shipped one.
        weighted: whether `weights` are used: `cal` is worth `min_effective_count` images under them.
    """

    logits: NDArray[np.float32]
    shipped: int
    seed: int
    cal: Predictions
    source_test: Predictions
    target_test: Predictions
    weights: calibration.DomainWeights
    weighted: bool
    source_temperature: float
    target_temperature: float

    def probabilities(self, rows: Predictions, temperature: float) -> Reals:
        """Returns calibrated probabilities of the shipped seed, `[n, K]`."""
        return softmax(self.logits[self.shipped, rows] / temperature)


def judged(
    chosen: Trained, made: dict[str, Any], samples: Samples, sources: Sequence[str], target: str, config: TrustConfig
) -> Judged:
    """Returns the chosen model with its temperatures and its weights for the target.

    Raises:
        DataError: a split that is needed has no prepared image.
    """
    cal, val = _rows(samples, sources, "cal"), _rows(samples, sources, "val")
    target_train, target_test = _rows(samples, [target], "train"), _rows(samples, [target], "test")
    logits = chosen.all_logits(made["epoch"])
    shipped = chosen.facts.seeds.index(made["seed"])
    seen = chosen.embeddings(made["seed"], made["epoch"])
    weights = calibration.domain_weights(seen[val], seen[target_train], seen[cal], seen[target_test])
    weighted = calibration.effective_count(weights.source) >= config.min_effective_count
    fit = (logits[shipped, cal], samples.label[cal])
    source_temperature = calibration.fit_temperature(*fit)
    return Judged(
        logits,
        shipped,
        made["seed"],
        cal,
        _rows(samples, sources, "test"),
        target_test,
        weights,
        weighted,
        source_temperature,
        calibration.fit_temperature(*fit, weights.source) if weighted else source_temperature,
    )


def _rows(samples: Samples, domains: Sequence[str], split: str) -> Predictions:
    rows = samples.rows(domains, split)
    if not len(rows):
        raise DataError(
            f"manifest: no prepared image in split '{split}' of {', '.join(domains)}, so the chosen model cannot be"
            " calibrated. Add images or change the split column of the table, then run 'dvc repro'"
        )
    return rows

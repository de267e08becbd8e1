"""Whether a batch still is of the domain that a model was adapted to: an exact test with a stated error rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field, field_validator
from scipy.special import logsumexp
from scipy.stats import betabinom

from isthmus.core.config import Config
from isthmus.serving.batch_statistics import BINS

Verdict = Literal["drift", "no drift", "too few images"]
_ROUNDING = 1e-9  # a tail of 0.15 is a rounding below 3 / 20


class WatchConfig(Config):
    """How a batch is judged: the section `watch:`."""

    significance: float = Field(
        0.01, gt=0, lt=1, description="[share] of batches without drift that may raise an alarm"
    )
    tail: float = Field(
        0.05, gt=0, lt=1, description="images with a domain_score up to this are counted; a multiple of 0.05"
    )
    min_images: int = Field(50, ge=1, description="[image] that a batch must have to be tested")
    hours: float = Field(24.0, gt=0, description="[h] before now from which stored statistics are used")

    @field_validator("tail")
    @classmethod
    def _whole_parts(cls, tail: float) -> float:
        if abs(tail * BINS - round(tail * BINS)) > _ROUNDING:
            raise ValueError(f"must be a multiple of {1 / BINS:g}, since statistics are stored in {BINS} parts")
        return tail


class WatchParams(Config):
    """The section of `params.yaml`."""

    watch: WatchConfig = WatchConfig()


@dataclass(frozen=True)
class Drift:
    """What the test found.

    Attributes:
        verdict: `drift`, `no drift`, or `too few images` to tell.
        why: one sentence with the numbers.
        images: that were judged.
        in_tail: of these, with a `domain_score` up to the tail.
        share: `in_tail` / `images`, the size of the effect; None without images.
        expected: that share where nothing has drifted.
        p_value: probability of as many in the tail without drift; None where it cannot be computed.
        held_out: images of the domain that the scores rest on.
    """

    verdict: Verdict
    why: str
    images: int
    in_tail: int
    share: float | None
    expected: float
    p_value: float | None
    held_out: int


def judge_drift(histogram: Sequence[int], held_out: int, config: WatchConfig) -> Drift:
    """Tests whether more images lie in the tail than images of the domain itself would.

    A score is (1 + held-out images at least as far away) / (1 + H): with m = floor(tail * (1 + H)) it is in the tail
    where the image is farther away than the m-th farthest held-out one. If images and held-out ones are drawn alike,
    an image is there with a probability that is itself drawn from Beta(m, H + 1 - m), the same for all of the batch: so
    the number of N images there is beta-binomial, exactly, however few are held out (ties only make it smaller). Vovk,
    "Conditional validity of inductive conformal predictors", Machine Learning 2013, section 3; Bates et al. 2023,
    section 2.2. p = P(X >= seen). A plain binomial would take 5% for known, and cry drift at every third clean batch.

    Args:
        histogram: images by `domain_score`, as `batch_statistics.histogram` counts them.
        held_out: H of the model.
        config: thresholds.

    >>> judge_drift([6, *[0] * 18, 94], held_out=199, config=WatchConfig()).verdict
    'no drift'
    >>> judge_drift([60, *[0] * 18, 40], held_out=199, config=WatchConfig()).verdict
    'drift'
    """
    images, in_tail = sum(histogram), sum(histogram[: round(config.tail * BINS)])
    farther = int((held_out + 1) * config.tail + _ROUNDING)
    share, expected = (in_tail / images if images else None), farther / (held_out + 1)
    p_value = _probability(in_tail, images, farther, held_out) if images and farther else None
    verdict, why = _verdict(images, p_value, held_out, config)
    return Drift(verdict, why, images, in_tail, share, expected, p_value, held_out)


def _probability(in_tail: int, images: int, farther: int, held_out: int) -> float:
    """Returns P(X >= in_tail); summed in logarithms, since 1 - P(X < in_tail) has no digits left where it is small."""
    terms = betabinom.logpmf(np.arange(in_tail, images + 1), images, farther, held_out + 1 - farther)
    return min(1.0, float(np.exp(logsumexp(terms))))


def _verdict(images: int, p_value: float | None, held_out: int, config: WatchConfig) -> tuple[Verdict, str]:
    if images < config.min_images:
        return "too few images", f"{images} images; watch.min_images requires {config.min_images}"
    if p_value is None:
        needed = int(np.ceil(1 / config.tail - _ROUNDING)) - 1
        return "too few images", (
            f"the model has {held_out} held-out images of its target; {needed} are needed to estimate the rarest"
            f" {config.tail:g}. Adapt it to more images, or raise watch.tail"
        )
    if p_value <= config.significance:
        return "drift", f"p-value {p_value:.2g}, at most watch.significance {config.significance:g}"
    return "no drift", f"p-value {p_value:.2g}, above watch.significance {config.significance:g}"

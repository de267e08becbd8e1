"""Soft neighbourhood density.

Saito, Kim, Teterwak, Sclaroff, Darrell & Saenko, "Tune it the Right Way: Unsupervised
Validation of Domain Adaptation via Soft Neighborhood Density", ICCV 2021, https://arxiv.org/abs/2108.10860, equations
2, 3.

With f_t the predictions of target image t scaled to length 1, and T = 0.05:

    q_tu = exp(f_t f_u / T) / sum_{v != t} exp(f_t f_v / T),    score = 1/N sum_t H(q_t)    [nat]

Known failure: a collapse onto one class makes every neighbourhood as dense as can be and scores best; mean regret 21
points in a public benchmark, and against the truth on six of eight development pairs here. Never alone.
"""

from typing import final

import numpy as np
from pydantic import Field

from isthmus.evaluation import metrics
from isthmus.evaluation.metrics import softmax
from isthmus.evaluation.validators import Trial, Validator, ValidatorConfig

_BLOCK = 1024  # rows whose similarities are held at once


class Config(ValidatorConfig):
    """Options of the density."""

    temperature: float = Field(0.05, gt=0, description="T of the similarities")

    def build(self) -> Validator:
        """Returns the validator."""
        return SoftNeighbourhoodDensity(self.temperature)


@final
class SoftNeighbourhoodDensity(Validator):
    """Mean entropy of the similarities to all other target images, from 0 to log(T - 1)."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def score(self, trial: Trial) -> float:
        """Returns the mean entropy [nat]; 0 for a single image."""
        predictions = softmax(trial.target_logits)
        if len(predictions) < 2:
            return 0.0
        unit = predictions / np.linalg.norm(predictions, axis=1, keepdims=True)
        total = 0.0
        for start in range(0, len(unit), _BLOCK):
            similar = unit[start : start + _BLOCK] @ unit.T / self.temperature
            similar[np.arange(len(similar)), start + np.arange(len(similar))] = -np.inf
            total += float(metrics.entropy(softmax(similar)).sum())
        return total / len(unit)

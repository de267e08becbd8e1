"""Confidence and diversity in one number.

Cui et al., "Towards Discriminability and Diversity: Batch Nuclear-norm
Maximization under Label Insufficient Situations", CVPR 2020, https://arxiv.org/abs/2003.12237, as a score.

With P `[T, K]` the predictions on the target and s_i its singular values:

    score = sum_i s_i / sqrt(T min(T, K))

1 for certain predictions that use all classes evenly; 1 / sqrt(min(T, K)) for a collapse onto one class.

Known failure: that of information maximisation: confident predictions whose classes are swapped score best.
"""

from typing import final

import numpy as np

from isthmus.evaluation.metrics import softmax
from isthmus.evaluation.validators import Trial, Validator, ValidatorConfig


class Config(ValidatorConfig):
    """Has no options."""

    def build(self) -> Validator:
        """Returns the validator."""
        return NuclearNorm()


@final
class NuclearNorm(Validator):
    """Nuclear norm of the predictions, normalised to at most 1."""

    def score(self, trial: Trial) -> float:
        """Returns the share of the largest possible norm."""
        predictions = softmax(trial.target_logits)
        norm = np.linalg.svd(predictions, compute_uv=False).sum()
        return float(norm / np.sqrt(len(predictions) * min(predictions.shape)))

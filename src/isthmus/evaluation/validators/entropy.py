"""Confidence on the target.

Morerio, Cavazza & Murino, "Minimal-Entropy Correlation Alignment for
Unsupervised Deep Domain Adaptation", ICLR 2018, https://arxiv.org/abs/1711.10288 (its criterion for hyperparameters).

    score = -1/T sum_t H(p_t),    H(p) = -sum_k p_k log p_k    [nat]

Known failure: a model that is wrong with great confidence, or that puts all images into one class, scores best.
It must not be used alone; methods that minimise entropy are not scored by it.
"""

from typing import final

from isthmus.evaluation import metrics
from isthmus.evaluation.metrics import softmax
from isthmus.evaluation.validators import Trial, Validator, ValidatorConfig


class Config(ValidatorConfig):
    """Has no options."""

    def build(self) -> Validator:
        """Returns the validator."""
        return Entropy()


@final
class Entropy(Validator):
    """Negative mean entropy of the predictions on the target, from -log K (uniform) to 0 (certain)."""

    def score(self, trial: Trial) -> float:
        """Returns the negative mean entropy [nat]."""
        return -float(metrics.entropy(softmax(trial.target_logits)).mean()) + 0.0

"""Confident and diverse on the target: mutual information between image and prediction.

Krause, Perona & Gomes, "Discriminative Clustering by Regularized Information Maximization", NIPS 2010; used
for domain adaptation by Shi & Sha, "Information-Theoretical Learning of Discriminative Clusters for
Unsupervised Domain Adaptation", ICML 2012, https://arxiv.org/abs/1206.6438.

    score = H(1/T sum_t p_t) - 1/T sum_t H(p_t)    [nat]

Known failure: a confident model whose classes are swapped, or whose clusters cut across the classes, scores as high
as a right one; and where the target's classes are rare, the even use of classes that it rewards is wrong.
"""

from typing import final

from isthmus.evaluation import metrics
from isthmus.evaluation.metrics import softmax
from isthmus.evaluation.validators import Trial, Validator, ValidatorConfig


class Config(ValidatorConfig):
    """Has no options."""

    def build(self) -> Validator:
        """Returns the validator."""
        return InformationMaximisation()


@final
class InformationMaximisation(Validator):
    """Mutual information on the target, from 0 (all alike, or uniform) to log K (certain, classes used evenly)."""

    def score(self, trial: Trial) -> float:
        """Returns the mutual information [nat]."""
        probabilities = softmax(trial.target_logits)
        return float(metrics.entropy(probabilities.mean(axis=0)) - metrics.entropy(probabilities).mean())

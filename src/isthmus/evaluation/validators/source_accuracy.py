"""Accuracy on the source's validation split: what everybody has.

Musgrave, Belongie & Lim, "Benchmarking Validation Methods for Unsupervised Domain Adaptation", 2022,
https://arxiv.org/abs/2208.07360, find it hard to beat as a single score.

    score = 1/S sum_s [y(s) = label of s]

Known failure: it has no idea of the target. Frozen heads reach 1.0 on the source with every method, and ties say
nothing."""

from typing import final

from isthmus.evaluation import metrics
from isthmus.evaluation.validators import Trial, Validator, ValidatorConfig


class Config(ValidatorConfig):
    """Has no options."""

    def build(self) -> Validator:
        """Returns the validator."""
        return SourceAccuracy()


@final
class SourceAccuracy(Validator):
    """Accuracy on the source, in [0, 1]."""

    def score(self, trial: Trial) -> float:
        """Returns the accuracy."""
        return metrics.accuracy(trial.source_logits.argmax(axis=1), trial.source_labels)

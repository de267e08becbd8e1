"""There and back: a classifier trained on the target's predicted labels is tested on the labelled source.

Zhong, Fan, Yang, Verscheure & Ren, "Cross Validation Framework to Choose amongst Models and Datasets for Transfer
Learning", ECML PKDD 2010; Ganin et al., "Domain-Adversarial Training of Neural Networks", JMLR 2016, section 5.1.2,
https://arxiv.org/abs/1505.07818. With y(t) the candidate's predictions on the target:

    g = logistic regression on {(x_t, y(t))},    score = balanced accuracy of g on the source's validation split

Differs: g does not adapt back, it reads frozen features of the backbone, standardised by domain. They are the same for
every candidate and no method has trained them, so scores are comparable between methods; and g costs milliseconds.

Known failure: it tests whether the predicted classes are arranged in the target as in the source. Predictions that copy
the backbone's geometry (zscore) score high whether or not that geometry survived the shift; a rearrangement that is
right although the features moved scores low. Alone it was below source-only in 23% of the development pools.
"""

from typing import final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from isthmus.core.accuracy import balanced_accuracy
from isthmus.evaluation.linear import INVERSE_PENALTY, ITERATIONS, linear_answers
from isthmus.evaluation.validators import Trial, Validator, ValidatorConfig


class Config(ValidatorConfig):
    """Options of the classifier that goes back."""

    inverse_penalty: float = Field(INVERSE_PENALTY, gt=0, description="C of the logistic regression; small is smooth")
    iterations: int = Field(ITERATIONS, ge=1, description="at most, of its solver")

    def build(self) -> "ReverseValidation":
        """Returns the validator."""
        return ReverseValidation(self.inverse_penalty, self.iterations)


@final
class ReverseValidation(Validator):
    """Balanced accuracy on the source of what was learnt from the target's predicted labels, in [0, 1]."""

    def __init__(self, inverse_penalty: float, iterations: int) -> None:
        self.inverse_penalty, self.iterations = inverse_penalty, iterations

    def score(self, trial: Trial) -> float:
        """Returns the balanced accuracy; predictions of a single class go back as that class."""
        return balanced_accuracy(self.back(trial), trial.source_labels)

    def back(self, trial: Trial) -> NDArray[np.int64]:
        """Returns the class `[S]` that what was learnt from the target's predicted labels gives each source image."""
        given = trial.target_logits.argmax(axis=1)
        return linear_answers(trial.target_frozen, given, trial.source_frozen, self.inverse_penalty, self.iterations)

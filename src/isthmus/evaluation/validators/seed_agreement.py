"""Agreement of training runs that differ in the seed alone.

Jiang, Nagarajan, Baek & Kolter, "Assessing Generalization of SGD via Disagreement", ICLR 2022,
https://arxiv.org/abs/2106.13799: for a calibrated ensemble the expected disagreement of two runs equals
the expected test error. Baek et al., "Agreement-on-the-Line", NeurIPS 2022, find that the relation often holds in
rank under shift. With y_r(t) the class that seed r predicts for target image t, and s this seed:

    score = 1/(R-1) sum_{r != s} 1/T sum_t [y_r(t) = y_s(t)]

Known failure: runs can agree on the same mistake. Collapse onto one class agrees perfectly, and so do methods with
little randomness in them. With a single seed the score is 1 for every candidate and says nothing.
"""

from typing import final

from isthmus.evaluation.validators import Trial, Validator, ValidatorConfig


class Config(ValidatorConfig):
    """Has no options."""

    def build(self) -> Validator:
        """Returns the validator."""
        return SeedAgreement()


@final
class SeedAgreement(Validator):
    """Share of target images on which this seed and another predict the same class, in [0, 1]."""

    def score(self, trial: Trial) -> float:
        """Returns the mean agreement of this seed with the others."""
        others = len(trial.seeds_target_logits) - 1
        if others < 1:
            return 1.0
        mine = trial.target_logits.argmax(axis=1)
        equal = (trial.seeds_target_logits.argmax(axis=2) == mine).mean(axis=1)
        return float((equal.sum() - 1.0) / others)  # this seed is among them and agrees with itself

"""Agreement with the pool but for the candidate's own method, after Hu, Luo, Liang & Foo, "Towards Reliable Model
Selection for Unsupervised Domain Adaptation: An Empirical Study and A Certified Baseline" (EnsV), NeurIPS 2024,
https://openreview.net/forum?id=rI7kbFTSpr.

With c(t) the class that the ensemble of all other methods gives target image t (`evaluation/selection/consensus.py`):

    score = 1/T sum_t [y(t) = c(t)]

Differs from `consensus`: in a pool of five a method holds a fifth of the vote that it is judged by, so the vote leans
to whatever is most confident; leaving its own voice out takes that away (leave-one-out: Stone, JRSS B 1974).

Known failure: as `consensus`; and the one method that is right alone is judged by those that are all wrong.
"""

from typing import final

from isthmus.evaluation.validators import Trial, Validator, ValidatorConfig


class Config(ValidatorConfig):
    """Has no options."""

    def build(self) -> Validator:
        """Returns the validator."""
        return OthersConsensus()


@final
class OthersConsensus(Validator):
    """Share of target images on which the candidate agrees with the other methods, in [0, 1]."""

    def score(self, trial: Trial) -> float:
        """Returns the share."""
        return float((trial.target_logits.argmax(axis=1) == trial.others_consensus).mean())

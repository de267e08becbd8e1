"""Agreement with the pool: Hu, Luo, Liang & Foo, "Towards Reliable Model Selection for Unsupervised Domain Adaptation:
An Empirical Study and A Certified Baseline" (EnsV), NeurIPS 2024, https://openreview.net/forum?id=rI7kbFTSpr.

With c(t) the class that the ensemble of all candidates gives target image t (`selection/consensus.py`: one vote a
method, smoothed over the target's neighbourhoods in frozen features):

    score = 1/T sum_t [y(t) = c(t)]

Known failure: the pool can be wrong together. Where most methods make the same mistake (marginal alignment under label
shift), the one that does not is an outlier here; the best candidate never wins if it is far better than the rest.
"""

from typing import final

from isthmus.evaluation.validators import Trial, Validator, ValidatorConfig


class Config(ValidatorConfig):
    """Has no options."""

    def build(self) -> Validator:
        """Returns the validator."""
        return Consensus()


@final
class Consensus(Validator):
    """Share of target images on which the candidate agrees with the pool, in [0, 1]."""

    def score(self, trial: Trial) -> float:
        """Returns the share."""
        return float((trial.target_logits.argmax(axis=1) == trial.consensus).mean())

"""Mutual information of a target image's prediction and those of its neighbours, on untrained features.

Neighbourhood agreement as in Saito et al., "Tune it the Right Way: Unsupervised Validation of Domain Adaptation via
Soft Neighborhood Density" (SND), ICCV 2021, https://arxiv.org/abs/2108.10860, but on frozen features, where a method
cannot pull neighbours together, and corrected for chance: with q_t the mean prediction of the nearest target images
of t,

    score = H(1/T sum_t p_t) - 1/T sum_t CE(p_t, q_t),    CE(p, q) = -sum_k p_k log q_k    [nat]

Information maximisation whose second term looks at the neighbours instead of the prediction itself: a confident model
whose classes cut across the target's clusters scores low.

Known failure: clusters of the frozen features need not be the classes. On the simulated CT pair they follow the
anatomy, and plain neighbourhood agreement ranks candidates against the truth (-0.7); swapped classes are not seen
either."""

from typing import final

import numpy as np

from isthmus.evaluation import metrics
from isthmus.evaluation.validators import Trial, Validator, ValidatorConfig, softmax

_LEAST = 1e-6  # probability that a neighbourhood gives to a class at least: one image cannot cost the whole score


class Config(ValidatorConfig):
    """Has no options."""

    def build(self) -> Validator:
        """Returns the validator."""
        return NeighbourInformation()


@final
class NeighbourInformation(Validator):
    """Information of predictions about their neighbours', at most log K; negative where neighbours contradict."""

    def score(self, trial: Trial) -> float:
        """Returns the information [nat]; 0 where there are no neighbours."""
        if not trial.neighbours.shape[1]:
            return 0.0
        own = softmax(trial.target_logits)
        around = np.maximum(own[trial.neighbours].mean(axis=1), _LEAST)
        cross_entropy = -(own * np.log(around)).sum(axis=1).mean()
        return float(metrics.entropy(own.mean(axis=0)) - cross_entropy)

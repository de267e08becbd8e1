"""Deep embedded validation: source risk, each source image weighed by how much it looks like the target.

You, Wang, Long & Jordan, "Towards Accurate Model Selection in Deep Unsupervised Domain Adaptation" (DEV), ICML 2019,
equations 6 to 8, http://proceedings.mlr.press/v97/you19a.html. With f the candidate's own features, l the
cross-entropy on the labelled source validation images and w(x) = p(target | f(x)) / p(source | f(x)):

    score = -(mean(w l) + eta (mean(w) - 1)),    eta = -Cov(w l, w) / Var(w)

The second term is the control variate: E[w] is 1, so it costs no bias and takes variance away. Normalised: the ratio is
that of `calibration.domain_weights`, scaled to mean 1 over the images it was fitted on and clipped at ten times that,
for unbounded weights made one image rule the risk (Musgrave, Belongie & Lim, "Three New Validators and a Large-Scale
Benchmark Ranking for Unsupervised Domain Adaptation", 2022, https://arxiv.org/abs/2208.07360). Differs: the domain
classifier is fitted on one half of the validation images and weighs the other, and the other way round; the paper fits
it on the source's training images, which the features themselves were fitted on.

Known failure: it assumes that p(class | features) is the same in both domains. Where features of two classes have
moved onto each other it sees nothing, and a method that makes the features alike gets weights of 1 and is scored by its
source loss alone. Where the domains separate wholly, the risk rests on a handful of images.
"""

from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from isthmus.evaluation.calibration import domain_weights
from isthmus.evaluation.metrics import softmax
from isthmus.evaluation.validators import Trial, Validator, ValidatorConfig

_LEAST_LIKELY = 1e-6  # probability of the true class at least: one image cannot cost more than 14 nat


class Config(ValidatorConfig):
    """Has no options."""

    def build(self) -> Validator:
        """Returns the validator."""
        return DeepEmbeddedValidation()


@final
class DeepEmbeddedValidation(Validator):
    """Minus the estimated cross-entropy on the target [nat]; may be above 0 by the control variate."""

    def score(self, trial: Trial) -> float:
        """Returns minus the risk; the plain source risk where a half would hold no image of a domain."""
        likely = softmax(trial.source_logits)[np.arange(len(trial.source_labels)), trial.source_labels]
        loss = -np.log(np.maximum(likely, _LEAST_LIKELY))
        if min(len(trial.source_features), len(trial.target_features)) < 2:
            return -float(loss.mean())
        return -controlled_risk(held_out_weights(trial.source_features, trial.target_features), loss)


def controlled_risk(weights: NDArray[np.float64], loss: NDArray[np.float64]) -> float:
    """Returns the weighted risk with its control variate; equal weights have no variance and need none.

    >>> controlled_risk(np.array([2.0, 1.0]), np.array([1.0, 1.0]))
    1.0
    """
    weighted = weights * loss
    variance = float(weights.var(ddof=1))
    eta = -float(np.cov(weighted, weights)[0, 1]) / variance if variance > 1e-12 else 0.0
    return float(weighted.mean() + eta * (weights.mean() - 1))


def held_out_weights(source: NDArray[Any], target: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the weight `[S]` of each source image, by a classifier that was fitted without it.

    Halves are every other row in the order of the features themselves, so that they do not depend on that of the rows.
    """
    mine, theirs = source[by_content := np.lexsort(source.T)], target[np.lexsort(target.T)]
    weights = np.empty(len(source))
    for held in (0, 1):
        fit = mine[1 - held :: 2]
        weights[by_content[held::2]] = domain_weights(fit, theirs[1 - held :: 2], fit, mine[held::2]).target
    return weights

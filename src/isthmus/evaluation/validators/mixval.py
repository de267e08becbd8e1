"""Mixed target images as probes: does a mixture keep the class of its heavier part?

Hu, Liang, Liew, Xue, Bai & Wang, "Mixed Samples as Probes for Unsupervised Model Selection in Domain Adaptation"
(MixVal), NeurIPS 2023, equations 2 to 4, https://openreview.net/forum?id=DYIIfNdHsT. With z(t) the logits of target
image t, y(t) their class, and pairs of images (t, u) of different predicted classes:

    score = mean over all such ordered pairs [argmax(a z(t) + (1 - a) z(u)) = y(t)],    a = 0.55

Differs: the paper mixes pixels and runs the model again; here the model does not run again, and the mixture is one of
features after the bottleneck, for the head is linear and its bias mixes to itself. There the paper's other probe, pairs
of the same predicted class, is right for any model (a class's region under a linear head is convex), so it is left out.

Known failure: it measures how evenly wide the margins are, not whether they lie between the true classes: swapped
classes are not seen, and a method that spreads its logits, or that gives up the classes it is unsure of, scores high.
A model that says one class has no pair and scores 0.
"""

from typing import final

import numpy as np
from pydantic import Field

from isthmus.evaluation.validators import Trial, Validator, ValidatorConfig


class Config(ValidatorConfig):
    """Options of the mixture."""

    share: float = Field(0.55, gt=0.5, lt=1, description="[share] of the heavier image; 0.55 in the paper")

    def build(self) -> Validator:
        """Returns the validator."""
        return MixedProbes(self.share)


@final
class MixedProbes(Validator):
    """Share of mixtures of two predicted classes that are given the class of the heavier part, in [0, 1]."""

    def __init__(self, share: float) -> None:
        self.share = share

    def score(self, trial: Trial) -> float:
        """Returns the share."""
        logits = trial.target_logits.astype(np.float64)
        own = logits.argmax(axis=1)
        kept, asked = 0, 0
        for heavier, given in zip(logits, own, strict=True):
            lighter = logits[own != given]
            kept += int(((self.share * heavier + (1 - self.share) * lighter).argmax(axis=1) == given).sum())
            asked += len(lighter)
        return kept / asked if asked else 0.0

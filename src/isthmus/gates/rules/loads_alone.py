"""Refuses a candidate that does not load and predict in a bare process, with nothing but what was registered."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from isthmus.evaluation.metrics import Reals
from isthmus.evaluation.scoring.box_truth import image_scores
from isthmus.evaluation.scoring.masks import mean_iou
from isthmus.gates import Evidence, Reason, Rule, Verdict
from isthmus.gates.scored import Answers, Scored

NAME = "loads_alone"


class Config(Rule):
    """The smoke test, and that the model which answers is the one that the pipeline evaluated."""

    needs_answers: ClassVar[bool] = True

    min_agreement: float = Field(
        0.99,
        ge=0,
        le=1,
        description="[share] of images that must get the class the pipeline gave; rounding may change one",
    )
    max_difference: float = Field(
        0.05,
        ge=0,
        le=1,
        description="[share] of mean IoU between masks, or of AP50 between boxes, as answered, of whole images at their"
        " own size, and as the pipeline evaluated them, of prepared images",
    )

    def reasons(self, evidence: Evidence) -> list[Reason]:
        """Returns whether it loads, whether its own code answered, and whether it answers as the pipeline did."""
        candidate = evidence.answers.candidate
        if candidate.failure:
            text = f"does not load and predict in a process of its own: {candidate.failure}"
            return [Reason(NAME, "refuse", None, None, text)]
        return [_bundled(candidate), self._agreement(evidence)]

    def _agreement(self, evidence: Evidence) -> Reason:
        scored = evidence.answers
        if scored.candidate.counts is not None:
            shown = np.array([mean_iou(count) for count in scored.candidate.counts])
            return self._same(scored, shown, "mean_iou", "mask", "mean IoU")
        if scored.candidate.matches is not None:
            shown = image_scores(scored.candidate.matches, scored.candidate.boxes_from)
            return self._same(scored, shown, "ap50", "box", "AP50")
        expected = scored.images["predicted"].to_numpy(dtype="int64")
        answered = scored.candidate.predicted(scored.classes)
        share = float((answered == expected).mean()) if len(answered) == len(expected) else 0.0
        verdict = "pass" if share >= self.min_agreement else "refuse"
        text = f"answers as the pipeline did on {share:.1%} of {len(expected)} images"
        return Reason(NAME, "pass" if verdict == "pass" else "refuse", share, self.min_agreement, text)

    def _same(self, scored: Scored, shown: Reals, key: str, what: str, name: str) -> Reason:
        known = scored.images[key].notna().to_numpy()
        if not known.any():
            text = f"no {what} of a test image is known: whether it answers as the pipeline did cannot be said"
            return Reason(NAME, "person", None, self.max_difference, text)
        answered, expected = float(shown[known].mean()), float(scored.images[key][known].mean())
        verdict: Verdict = "pass" if abs(answered - expected) <= self.max_difference else "refuse"
        text = (
            f"{name} of an image {answered:.3f} as answered, {expected:.3f} as the pipeline evaluated it, on"
            f" {int(known.sum())} images"
        )
        return Reason(NAME, verdict, answered - expected, self.max_difference, text)


def _bundled(candidate: Answers) -> Reason:
    if candidate.bundled:
        return Reason(NAME, "pass", None, None, "loads and predicts in a clean process with its bundled code")
    return Reason(NAME, "refuse", None, None, "the predictions came from another copy of the code than the bundled one")

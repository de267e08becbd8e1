"""Refuses a candidate whose stated confidence is far from how often it is right.

Expected calibration error over bins of equal count (Guo et al., ICML 2017, equation 3; `evaluation/calibration.py`).
It is biased upwards on few images, so what a perfectly calibrated model would show on as many is stated beside it.
"""

from typing import ClassVar

from pydantic import Field

from isthmus.core.seeds import derive_seed
from isthmus.evaluation.calibration import calibration_error
from isthmus.evaluation.metrics import group_weights
from isthmus.gates import Evidence, Reason, Rule, Verdict
from isthmus.gates.scored import NO_LABELS

NAME = "calibration"


class Config(Rule):
    """The limit holds on the target where it is labelled, and on the source."""

    needs_answers: ClassVar[bool] = True
    judges_files: ClassVar[bool] = True

    max_error: float = Field(0.2, ge=0, le=1, description="[share] expected calibration error")
    resamples: int = Field(1000, ge=100, description="bootstrap resamples, by group, for the interval")

    def reasons(self, evidence: Evidence) -> list[Reason]:
        """Returns one finding for each role."""
        if evidence.answers.candidate.matches is not None:
            text = "the calibration of scores of boxes is not measured: this rule says nothing of boxes"
            return [Reason(NAME, "pass", None, self.max_error, text)]
        if evidence.answers.candidate.counts is not None:
            text = "the calibration of pixels is not measured: this rule says nothing of masks"
            return [Reason(NAME, "pass", None, self.max_error, text)]
        return evidence.silence(NAME) or [self._of_role(evidence, role) for role in evidence.answers.roles]

    def _of_role(self, evidence: Evidence, role: str) -> Reason:
        scored = evidence.answers
        rows = scored.labelled(role)
        if not len(rows):
            text = f"{NO_LABELS[role]}: the calibration is unknown"
            return Reason(NAME, "person", None, self.max_error, text)
        confidence = scored.candidate.probabilities.max(axis=1)[rows]
        seed = derive_seed(0, "gate", NAME, role)
        drawn = group_weights(scored.images["group"].to_numpy()[rows], self.resamples, seed)
        found = calibration_error(confidence, scored.right(scored.candidate)[rows], drawn, seed)
        number = found["ece"]
        # below what chance gives on so few images nothing is shown
        verdict: Verdict = "refuse" if number > max(self.max_error, found["by_chance"]) else "pass"
        text = (
            f"{role}: expected calibration error {number:.3f} [{found['low']:.3f}, {found['high']:.3f}] on {len(rows)}"
            f" images (by chance {found['by_chance']:.3f}), allowed {self.max_error:.3f}"
        )
        return Reason(NAME, verdict, number, self.max_error, text)

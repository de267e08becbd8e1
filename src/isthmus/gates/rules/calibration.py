"""Refuses a candidate whose stated confidence is far from how often it is right.

Expected calibration error (Naeini, Cooper and Hauskrecht, AAAI 2015, equation 4; Guo et al., ICML 2017, equation 3):
sum over bins of n_b / n * |accuracy_b - confidence_b|, equal-width bins of the highest probability.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from isthmus.gates import Evidence, Reason, Rule, Verdict
from isthmus.gates.scored import SOURCE, TARGET

NAME = "calibration"


class Config(Rule):
    """The limit holds on the target where it is labelled, and on the source."""

    needs_answers: ClassVar[bool] = True

    max_error: float = Field(0.2, ge=0, le=1, description="[share] expected calibration error")
    bins: int = Field(15, ge=2, le=100, description="of the highest probability, equally wide")

    def reasons(self, evidence: Evidence) -> list[Reason]:
        """Returns one finding for each role."""
        return evidence.silence(NAME) or [self._of_role(evidence, role) for role in (TARGET, SOURCE)]

    def _of_role(self, evidence: Evidence, role: str) -> Reason:
        scored = evidence.answers
        rows = scored.labelled(role)
        if not len(rows):
            text = f"no {role} labels: how far confidence is from truth is not known. A person must decide"
            return Reason(NAME, "person", None, self.max_error, text)
        confidence = scored.candidate.probabilities.max(axis=1)[rows]
        number = expected_calibration_error(confidence, scored.right(scored.candidate)[rows], self.bins)
        verdict: Verdict = "pass" if number <= self.max_error else "refuse"
        relation = "within" if verdict == "pass" else "above"
        text = f"{role}: expected calibration error {number:.3f} on {len(rows)} images, {relation} {self.max_error:.3f}"
        return Reason(NAME, verdict, number, self.max_error, text)


def expected_calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_], bins: int) -> float:
    """Returns the expected calibration error [share] of confidences `[N]` in [0, 1].

    >>> expected_calibration_error(np.array([0.9, 0.9]), np.array([True, False]), 10)
    0.4
    """
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gaps = [(confidence[place == b] - right[place == b]).sum() for b in np.unique(place)]
    return float(np.abs(gaps).sum() / len(confidence))

"""Refuses a candidate that does not load and predict in a bare process, with nothing but what was registered."""

from typing import ClassVar

from pydantic import Field

from isthmus.gates import Evidence, Reason, Rule
from isthmus.gates.scored import Answers

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

    def reasons(self, evidence: Evidence) -> list[Reason]:
        """Returns whether it loads, whether its own code answered, and whether it answers as the pipeline did."""
        candidate = evidence.answers.candidate
        if candidate.failure:
            text = f"does not load and predict in a process of its own: {candidate.failure}"
            return [Reason(NAME, "refuse", None, None, text)]
        return [_bundled(candidate), self._agreement(evidence)]

    def _agreement(self, evidence: Evidence) -> Reason:
        scored = evidence.answers
        expected = scored.images["predicted"].to_numpy(dtype="int64")
        answered = scored.candidate.predicted(scored.classes)
        share = float((answered == expected).mean()) if len(answered) == len(expected) else 0.0
        verdict = "pass" if share >= self.min_agreement else "refuse"
        text = f"answers as the pipeline did on {share:.1%} of {len(expected)} images"
        return Reason(NAME, "pass" if verdict == "pass" else "refuse", share, self.min_agreement, text)


def _bundled(candidate: Answers) -> Reason:
    if candidate.bundled:
        return Reason(NAME, "pass", None, None, "loads and predicts in a clean process with its bundled code")
    return Reason(NAME, "refuse", None, None, "the predictions came from another copy of the code than the bundled one")

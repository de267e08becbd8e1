"""Refuses a candidate that is worse on labelled target images than the champion it would replace.

Both answer the same frozen images; the difference is paired and its interval comes from resampling groups (Field and
Welsh, JRSS B 2007, "Bootstrapping clustered data").
"""

from typing import ClassVar

from pydantic import Field

from isthmus.gates import Evidence, Reason, Rule, Verdict
from isthmus.gates.comparison import paired_difference
from isthmus.gates.scored import NO_LABELS, TARGET

NAME = "not_worse_than_champion"


class Config(Rule):
    """Two ways to fail: the whole interval lies below zero, or the mean does by more than the margin."""

    needs_answers: ClassVar[bool] = True
    judges_files: ClassVar[bool] = True

    margin: float = Field(0.02, ge=0, le=1, description="[share] of balanced accuracy that the mean may lose")
    resamples: int = Field(1000, ge=100, description="bootstrap resamples, by group")
    sure: bool = Field(False, description="the whole interval must lie above -margin, else a person must decide")

    def reasons(self, evidence: Evidence) -> list[Reason]:
        """Returns one finding: candidate minus champion, in balanced accuracy on the target."""
        return evidence.silence(NAME) or [self._compare(evidence)]

    def _compare(self, evidence: Evidence) -> Reason:
        champion = evidence.answers.champion
        if champion is None:
            text = "no champion yet: a first promotion, compared with the floor and source-only alone"
            return Reason(NAME, "pass", None, -self.margin, text)
        if champion.failure:
            text = f"champion {champion.version} did not answer ({champion.failure})"
            return Reason(NAME, "person", None, -self.margin, text)
        if not len(evidence.answers.labelled(TARGET)):
            text = f"{NO_LABELS[TARGET]}: whether it beats champion {champion.version} is not known"
            return Reason(NAME, "person", None, -self.margin, text)
        found = paired_difference(evidence.answers, champion, TARGET, self.resamples)
        seen, worse = f"candidate minus champion {champion.version} is {found}", found.worse(self.margin)
        verdict: Verdict = "refuse" if worse else "pass"
        if not worse and self.sure and found.low < -self.margin:
            verdict, worse = "person", f"too few images to exclude a loss of {self.margin:.3f}"
        return Reason(
            NAME, verdict, found.mean, -self.margin, f"{seen}: {worse or f'not worse by more than {self.margin:.3f}'}"
        )

"""Refuses a candidate that forgot the source: what the old device sends is often still to be classified.

Forgetting under adaptation is measured on the source's own test split (French, Trends in Cognitive Sciences 1999,
"Catastrophic forgetting in connectionist networks"), against source-only and against the champion.
"""

import math
from typing import ClassVar

from pydantic import Field

from isthmus.gates import Evidence, Reason, Rule, Verdict, name_of
from isthmus.gates.comparison import paired_difference
from isthmus.gates.scored import SOURCE

NAME = "source_kept"


class Config(Rule):
    """How much of the source may be lost."""

    needs_answers: ClassVar[bool] = True

    margin: float = Field(0.05, ge=0, le=1, description="[share] of source test balanced accuracy that may be lost")
    resamples: int = Field(1000, ge=100, description="bootstrap resamples, by group")

    def reasons(self, evidence: Evidence) -> list[Reason]:
        """Returns one finding against source-only, and one against the champion where there is one."""
        return evidence.silence(NAME) or [self._against_source_only(evidence), *self._against_champion(evidence)]

    def _against_source_only(self, evidence: Evidence) -> Reason:
        metric = evidence.answers.metric  # of what models answer: defects are ranked on the target alone
        keys = [f"{whose}_test_{metric}" for whose in ("source", "source_only_source")]
        if not all(key in evidence.metrics for key in keys):
            text = f"no {name_of(metric)} on test images of the source: the loss on the source is unknown"
            return Reason(NAME, "person", None, -self.margin, text)
        chosen, floor = (evidence.metrics[key] for key in keys)
        verdict: Verdict = "pass" if chosen - floor >= -self.margin else "refuse"
        text = f"source test {name_of(metric)} {chosen:.3f}, source-only {floor:.3f}: {chosen - floor:+.3f}"
        return Reason(NAME, verdict, chosen - floor, -self.margin, text)

    def _against_champion(self, evidence: Evidence) -> list[Reason]:
        champion = evidence.answers.champion
        if champion is None or champion.failure or not len(evidence.answers.labelled(SOURCE)):
            return []
        found = paired_difference(evidence.answers, champion, SOURCE, self.resamples)
        if math.isnan(found.mean):  # the source's test images show no object: there are no boxes to be lost
            return []
        lost = found.mean < -self.margin
        text = f"on the source, candidate minus champion {champion.version} is {found}"
        return [Reason(NAME, "refuse" if lost else "pass", found.mean, -self.margin, text)]

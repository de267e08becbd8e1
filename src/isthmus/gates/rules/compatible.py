"""Refuses a candidate that callers of the champion could not call, or would misread: class map and signature.

A model with the same classes in another order answers every request and is wrong in each: callers that read
probabilities by place get another class's.
"""

from typing import ClassVar

from pydantic import Field

from isthmus.gates import Evidence, Reason, Rule
from isthmus.gates.scored import Answers

NAME = "compatible"


class Config(Rule):
    """What must stay as it is for those who call the model."""

    needs_answers: ClassVar[bool] = True

    new_classes: bool = Field(False, description="allow other classes than the champion's: a person must decide then")

    def reasons(self, evidence: Evidence) -> list[Reason]:
        """Returns one finding for the class map and one for the signature."""
        return evidence.silence(NAME) or [self._classes(evidence), _signature(evidence)]

    def _classes(self, evidence: Evidence) -> Reason:
        scored = evidence.answers
        mine = scored.candidate.classes
        if mine != scored.classes:
            return _differs("params.yaml", mine, scored.classes)
        champion = scored.champion
        if champion is None or not champion.classes or mine == champion.classes:
            against = "the scenario's" if champion is None else f"those of champion {champion.version}"
            return Reason(NAME, "pass", None, None, f"classes and their order are {against}: {', '.join(mine)}")
        found = _differs(f"champion {champion.version}", mine, champion.classes)
        if self.new_classes and set(mine) != set(champion.classes):
            return Reason(NAME, "person", None, None, found.text)
        return found


def _differs(other: str, mine: list[str], theirs: list[str]) -> Reason:
    how = "in another order than" if sorted(mine) == sorted(theirs) else "other than"
    text = f"classes are {how} those of {other}: {', '.join(mine)} against {', '.join(theirs)}"
    return Reason(NAME, "refuse", None, None, text)


def _signature(evidence: Evidence) -> Reason:
    candidate, champion = evidence.answers.candidate, evidence.answers.champion
    if champion is None or not champion.outputs:
        return Reason(NAME, "pass", None, None, f"signature: {_columns(candidate.inputs)} -> {len(candidate.outputs)}")
    missing = {k: v for k, v in _promised(champion).items() if _promised(candidate).get(k) != v}
    if candidate.inputs != champion.inputs or missing:
        text = (
            f"signature: takes {_columns(candidate.inputs)} where champion {champion.version} takes"
            f" {_columns(champion.inputs)}; lacks {_columns(missing) or 'no output'}"
        )
        return Reason(NAME, "refuse", None, None, text)
    return Reason(NAME, "pass", None, None, f"signature is that of champion {champion.version}")


def _promised(answers: Answers) -> dict[str, str]:
    # probabilities, shares and counts are named for classes, which have a finding of their own
    return {n: kind for n, kind in answers.outputs.items() if not n.startswith(("probability_", "share_", "count_"))}


def _columns(columns: dict[str, str]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in sorted(columns.items()))

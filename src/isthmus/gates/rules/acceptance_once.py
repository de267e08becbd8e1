"""Refuses the runner-up of a refused candidate, and counts how often the labelled target sample was asked.

Each answer of a held-out sample leaks some of it into the next choice (Dwork et al., Science 2015, "The reusable
holdout"): one question a choice, and no second try from the same pool after a refusal.
"""

from typing import ClassVar

from pydantic import Field

from isthmus.gates import Evidence, Reason, Rule
from isthmus.gates.scored import NO_LABELS, TARGET

NAME = "acceptance_once"


class Config(Rule):
    """How often one sample may be asked."""

    needs_answers: ClassVar[bool] = True

    max_choices: int = Field(20, ge=1, description="choices that one sample may evaluate before a person must decide")

    def reasons(self, evidence: Evidence) -> list[Reason]:
        """Returns one finding."""
        asked = evidence.answers.acceptance
        if asked["runner_up_of"]:
            text = (
                f"comes from the pool of version {asked['runner_up_of']}, which was refused on this sample: its labels"
                " were not used. Train again, or provide a new sample"
            )
            return [Reason(NAME, "refuse", asked["choices"], self.max_choices, text)]
        if not asked["labelled"]:
            return [Reason(NAME, "pass", 0, self.max_choices, f"{NO_LABELS[TARGET]}, so none were used")]
        text = f"the labelled target sample ({asked['labelled']} images) has evaluated {asked['choices']} choices"
        if asked["choices"] > self.max_choices:
            more = "is used up. Provide a new one"
            return [Reason(NAME, "person", asked["choices"], self.max_choices, f"{text} and {more}")]
        return [Reason(NAME, "pass", asked["choices"], self.max_choices, text)]

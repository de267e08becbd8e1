"""Refuses a comparison of models that were not asked about the same images, or about images they were trained on."""

from typing import ClassVar

from pydantic import Field

from isthmus.gates import Evidence, Reason, Rule
from isthmus.gates.scored import Answers, Scored

NAME = "same_data"


class Config(Rule):
    """One frozen evaluation set for all, known by the bytes of its images and by its labels."""

    needs_answers: ClassVar[bool] = True
    judges_files: ClassVar[bool] = True

    max_seen: int = Field(0, ge=0, description="images of the set that a model may have been trained on")

    def reasons(self, evidence: Evidence) -> list[Reason]:
        """Returns one finding for the set, and one a model for what it read and what it was trained on."""
        scored = evidence.answers
        asked = [answers for answers in (scored.candidate, scored.champion) if answers and not answers.failure]
        return [_current(scored), *(_read(scored, answers) for answers in asked), *self._seen(scored)]

    def _seen(self, scored: Scored) -> list[Reason]:
        return [
            Reason(
                NAME, "pass" if count <= self.max_seen else "refuse", count, self.max_seen,
                f"the {who} was trained on {count} of the {len(scored.images)} images it is evaluated on",
            )
            for who, count in sorted(scored.seen.items()) if count is not None
        ]  # fmt: skip


def _current(scored: Scored) -> Reason:
    if scored.set_md5 != scored.current_md5:
        text = f"scored on other data: set {scored.set_md5}, the results are about {scored.current_md5}"
        return Reason(NAME, "refuse", None, None, f"{text}. Run 'isthmus score' again")
    return Reason(NAME, "pass", None, None, f"evaluation set {scored.set_md5}, {len(scored.images)} images")


def _read(scored: Scored, answers: Answers) -> Reason:
    same = answers.image_id == list(scored.images["image_id"]) and answers.sha256 == list(scored.images["sha256"])
    what = (
        "read exactly the images of the set"
        if same
        else "read other images than those of the set: scored on other data"
    )
    return Reason(NAME, "pass" if same else "refuse", None, None, f"version {answers.version} {what}")

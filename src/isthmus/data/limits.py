"""How much of what the audit finds a user accepts: each limit is off until it is set, and then stops the run."""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from isthmus.core.config import Config
from isthmus.core.errors import DataError
from isthmus.data.shortcut import ADVICE

_SKILL = "[share of the way from chance to always right] that file size, aspect ratio or the corners, each alone, may "


class Limits(Config):
    """What stops `ingest`; none: only reported. The share of broken files stands in `IngestConfig`."""

    max_class_shortcut: float | None = Field(
        None, ge=0, le=1, description=_SKILL + "tell the class of source images, by the low end of its interval"
    )
    max_domain_shortcut: float | None = Field(
        None, ge=0, le=1, description=_SKILL + "tell the domain; two devices nearly always differ in one of them"
    )


def check_limits(limits: Limits, audit: dict[str, Any]) -> None:
    """Stops a run whose data pass a limit.

    Args:
        limits: those of the user.
        audit: as `ingest` writes it.

    Raises:
        DataError: all limits that are passed, with the number, the limit and what to do.
    """
    problems = list(_shortcuts(limits, audit["shortcuts"]))
    if problems:
        raise DataError("\n".join(problems) + "\nThen run 'dvc repro' again")


def _shortcuts(limits: Limits, found: dict[str, Any]) -> Iterator[str]:
    questions = [("the domain", found["domain"], "max_domain_shortcut", limits.max_domain_shortcut)]
    for domain, cues in found["class"].items():
        questions.append((f"the class in source '{domain}'", cues, "max_class_shortcut", limits.max_class_shortcut))
    for what, cues, key, limit in questions:
        for cue, told in cues.items():
            if limit is not None and told["found"] and told["skill_low"] > limit:
                yield (
                    f"{what} can be told from the {cue.replace('_', ' ')} alone: balanced accuracy"
                    f" {told['balanced_accuracy']:.2f} where chance is {told['chance']:.2f} (99.9% interval"
                    f" {told['low']:.2f} to {told['high']:.2f}): its low end is {told['skill_low']:.0%} of the way from"
                    f" chance to always right; 'ingest.{key}' in params.yaml allows {limit:.0%}. {ADVICE[cue]}."
                    " Or raise the limit"
                )

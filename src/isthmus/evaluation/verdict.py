"""What the numbers say, in sentences: shared by the report's first screen and the model card."""

from dataclasses import dataclass
from typing import Any, Literal

from isthmus.evaluation.choice import SOURCE_ONLY
from isthmus.evaluation.findings import Findings

ABSENT = "\u2013"  # a dash where there is no number
MINUS = "\u2212"  # as wide as the plus sign, so that columns line up


@dataclass(frozen=True)
class Step:
    """A next step: a command and what it does, or only words where `command` is empty."""

    command: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """The first screen.

    Attributes:
        tone: `good` better than source-only, `bad` worse, `open` neither is shown.
        label: two or three words for the badge.
        headline: one sentence.
        detail: the numbers behind it, one or two sentences.
    """

    tone: Literal["good", "bad", "open"]
    label: str
    headline: str
    detail: str
    steps: list[Step]


def judge(findings: Findings) -> Verdict:
    """Returns the verdict on the chosen model."""
    if not findings.labelled:
        return _without_labels(findings)
    method = findings.choice["chosen"]["method"]
    truth = findings.truth["methods"][method]
    scored = f"On the labelled target test split it scores {share_with_interval(truth['balanced_accuracy'])}."
    if method == SOURCE_ONLY:
        headline, label = _kept(findings)
        return Verdict("open", label, headline, scored, _kept_steps(findings))
    gain = truth["minus_source_only"]
    detail = f"{scored} Against source-only that is {points_with_interval(gain)}."
    if gain["low"] > 0:
        headline = f"{method} is better than source-only by {points(gain['mean'], sign=False)}."
        return Verdict("good", "Better than source-only", headline, detail, _steps(findings.name))
    if gain["high"] < 0:
        headline = f"{method} is worse than source-only by {points(-gain['mean'], sign=False)}."
        return Verdict("bad", "Worse than source-only", headline, detail, _bad_steps(findings.name))
    headline = f"{method} is not clearly different from source-only."
    return Verdict("open", "No clear difference", headline, detail, _steps(findings.name))


def share(value: float | None) -> str:
    """Returns a share as a percentage.

    >>> share(0.6124)
    '61.2%'
    """
    return ABSENT if value is None else f"{100 * value:.1f}%"


def points(value: float, sign: bool = True) -> str:
    """Returns a difference of shares in percentage points.

    >>> points(0.031)
    '+3.1 points'
    """
    text = f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"
    return text.replace("-", MINUS) + " points"


def share_with_interval(value: dict[str, Any]) -> str:
    """Returns a share and its 95% interval.

    >>> share_with_interval({"mean": 0.5, "low": 0.4, "high": 0.6})
    '50.0% balanced accuracy (95% interval 40.0% to 60.0%)'
    """
    return f"{share(value['mean'])} balanced accuracy (95% interval {share(value['low'])} to {share(value['high'])})"


def points_with_interval(value: dict[str, Any]) -> str:
    """Returns a difference and its paired 95% interval.

    >>> points_with_interval({"mean": 0.1, "low": 0.0, "high": 0.2})
    '+10.0 points (paired 95% interval +0.0 to +20.0)'
    """
    low, high = (points(value[k]).removesuffix(" points") for k in ("low", "high"))
    return f"{points(value['mean'])} (paired 95% interval {low} to {high})"


def _without_labels(findings: Findings) -> Verdict:
    method = findings.choice["chosen"]["method"]
    unknown = (
        "The target has no labels: the true accuracy is not known, nor whether this is better than source-only."
        " No gain is claimed."
    )
    if method == SOURCE_ONLY:
        headline, label = _kept(findings)
        return Verdict("open", label, headline, unknown, _kept_steps(findings))
    headline = f"{method} was chosen, without target labels."
    steps = [
        Step(f"isthmus publish {findings.name}", "puts the model into the registry as candidate"),
        Step(f"isthmus gate {findings.name}", "asks for a person's decision (exit 4): there is no labelled evidence"),
        Step(
            f"dvc repro report@{findings.name}",
            "measures the truth, once some target images are labelled and target_labels is set in params.yaml",
        ),
    ]
    return Verdict("open", "Chosen without labels", headline, unknown, steps)


def _kept(findings: Findings) -> tuple[str, str]:
    if len(findings.choice["best_epoch"]) == 1:
        return "Source-only is all there is: no adapted method was trained.", "Nothing to choose from"
    if findings.choice["chosen"]["fallback"]:
        return "Source-only is kept: no adapted model passed the guards.", "Fallback to source-only"
    return "Source-only is kept: it ranked before every adapted model.", "Source-only ranked first"


def _steps(name: str) -> list[Step]:
    return [
        Step(f"isthmus publish {name}", "puts the model into the registry as candidate"),
        Step(f"isthmus gate {name}", "decides yes, no, or a person must decide, with reasons"),
        Step(f"isthmus promote {name}", "makes it the champion, if the gate said yes"),
    ]


def _bad_steps(name: str) -> list[Step]:
    return [
        Step("", "Do not promote this model: adaptation did harm here."),
        Step(f"isthmus publish {name}", "puts the model into the registry as candidate, for the record"),
        Step(f"isthmus gate {name}", "refuses it and says why (exit 3)"),
    ]


def _kept_steps(findings: Findings) -> list[Step]:
    return [
        Step("", "Read 'Why this choice' below: it says what held each adapted candidate back."),
        Step(f"isthmus publish {findings.name}", "puts the source-only model into the registry as candidate"),
        Step(f"isthmus gate {findings.name}", "decides yes, no, or a person must decide, with reasons"),
    ]

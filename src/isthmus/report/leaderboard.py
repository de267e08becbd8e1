"""One row a method: label-free scores, guards, and, where target labels exist, the truth beside them."""

from dataclasses import dataclass
from typing import Any

from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.report.results import Findings


@dataclass(frozen=True)
class Row:
    """One method at the epoch that `select` takes for it.

    Attributes:
        tie: tied with the chosen one, the best by truth, or both; empty where a difference was shown.
        transfer: better, worse or no difference shown against source-only; empty without labels and for source-only.
        out: reasons why its candidates were not eligible; empty when it was.
        scores: validator -> mean over seeds, None where it is not finite, or the method's own loss optimises it.
        true_score: on the target test split, with `mean`, `low`, `high`, `per_seed`; None without labels.
        second_score: the plain accuracy, in the same form.
        measured: `accuracy`, `low`, `high` on random target images that a person labelled; None without them.
        gain: paired difference to source-only with `mean`, `low`, `high`; None without labels and for source-only.
    """

    method: str
    epoch: int
    chosen: bool
    oracle: bool
    sees_target: bool
    tie: str
    out: list[str]
    scores: dict[str, float | None]
    source_val_accuracy: float | None
    true_score: dict[str, Any] | None
    second_score: dict[str, Any] | None
    measured: dict[str, Any] | None
    gain: dict[str, Any] | None
    transfer: str


def leaderboard(findings: Findings) -> list[Row]:
    """Returns the rows: by true score where labels exist, else the chosen first, then by name."""
    rows = [_row(findings, method, epoch) for method, epoch in findings.choice["epochs"].items()]
    if findings.labelled:
        return sorted(rows, key=lambda row: (-(row.true_score or {"mean": -1.0})["mean"], row.method))
    return sorted(rows, key=lambda row: (not row.chosen, row.method))


def candidate_of(findings: Findings, method: str, epoch: int) -> dict[str, Any]:
    """Returns the candidate of `choice.json`; a method without one has only empty values."""
    for candidate in findings.choice["candidates"]:
        if candidate["method"] == method and candidate["epoch"] == epoch:
            found: dict[str, Any] = candidate
            return found
    return {"scores": {}, "source_val_accuracy": None, "refused": ["this method was not measured"]}


def _row(findings: Findings, method: str, epoch: int) -> Row:
    candidate = candidate_of(findings, method, epoch)
    chosen = findings.choice["chosen"]["method"]
    truth = findings.truth["methods"].get(method) if findings.labelled else None
    optimised = findings.runs[method]["optimises"]
    return Row(
        method=method,
        epoch=epoch,
        chosen=method == chosen,
        oracle=findings.labelled and findings.truth["oracle"]["method"] == method,
        sees_target=findings.runs[method]["sees_target"],
        tie=_tie(findings, method, chosen),
        out=candidate["refused"],
        scores={v: None if v in optimised else candidate["scores"].get(v) for v in findings.choice["validators"]},
        source_val_accuracy=candidate["source_val_accuracy"],
        true_score=truth[findings.scored.metric] if truth else None,
        second_score=truth[findings.scored.second] if truth else None,
        measured=findings.truth.get("measured", {"methods": {}})["methods"].get(method),
        gain=truth["minus_source_only"] if truth and method != SOURCE_ONLY else None,
        transfer=truth["transfer"] if truth and method != SOURCE_ONLY else "",
    )


def _tie(findings: Findings, method: str, chosen: str) -> str:
    truth = findings.truth["methods"].get(method) if findings.labelled else None
    if truth is None:
        return ""
    best = findings.truth["oracle"]["method"]
    tied = [
        name
        for name, other, key in (("the chosen one", chosen, "minus_chosen"), ("the best", best, "minus_oracle"))
        if other != method and _zero(truth[key])
    ]
    return f"paired 95% interval of the difference to {' and to '.join(tied)} includes zero" if tied else ""


def _zero(difference: dict[str, float]) -> bool:
    return difference["low"] <= 0 <= difference["high"]

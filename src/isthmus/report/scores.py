"""The few numbers of a scenario that stand in a table: `scores.json`, MLflow's run page, `isthmus compare`."""

from collections.abc import Mapping
from typing import Any

from isthmus.report.results import Findings

DIGITS = 4  # of a share: a hundredth of a point
# what each number is; the score is that of the task
MEANING = {
    "target": "{score} of the chosen model on the target's test split, mean over seeds",
    "source_only": "{score} there of the model that was trained on the source alone",
    "gain": "target - source_only, on the same images",
    "gain_low": "lower end of the gain's 95% interval",
    "gain_high": "upper end of the gain's 95% interval",
    "regret": "{score} of the best method by the target's labels - target",
    "source": "{score} of the chosen model on the source's test split",
    "estimate": "accuracy on the target's test split, estimated without its labels",
    "estimate_low": "lower end of the estimate's interval",
    "estimate_high": "upper end of the estimate's interval",
    "measured": "accuracy on randomly drawn target images that a person labelled",
    "measured_low": "lower end of its 95% interval",
    "measured_high": "upper end of its 95% interval",
    "false_alarms": "share of the target's good test images that raise an alarm",
    "found": "share of its defective test images that raise an alarm",
    "boundary": "boundary score of the chosen model on the target's test split",
    "ap": "AP of the chosen model on the target's test split, mean over ten overlaps",
}
_BESIDE = ("boundary", "ap")  # further scores of a method in `truth.json` that are shown
_MARGINS = ("low", "high")


def scores_of(findings: Findings) -> dict[str, float]:
    """Returns `scores` of what the report has read."""
    return scores(findings.scored.metric, findings.choice, findings.metrics, findings.truth, findings.trust)


def scores(
    metric: str, choice: Mapping[str, Any], metrics: Mapping[str, float], truth: Mapping[str, Any],
    trust: Mapping[str, Any],
) -> dict[str, float]:  # fmt: skip
    """Returns name -> number, names of `MEANING`; what was not measured is left out.

    Without target labels what a person's labels measured, or else the estimate, stands there with its interval.

    Args:
        metric: key of the task's score.
        choice: `choice.json`; the others are the files of their names, which `evaluate` writes.
    """
    chosen = choice["chosen"]["method"]
    found: dict[str, float | None] = {}
    estimate, measured = trust.get("estimate", {}), truth.get("measured")
    if truth["available"]:
        methods = truth["methods"]
        row, floor = methods[chosen], methods["source_only"]
        found |= {"target": row[metric]["mean"], "source_only": floor[metric]["mean"]}
        found |= _with_margins("gain", row["minus_source_only"], "mean") | {"regret": truth["regret"]["mean"]}
        found |= {name: row[name]["mean"] for name in _BESIDE if name in row}
        found["estimate"] = estimate.get("accuracy")
    elif measured:
        found |= _with_margins("measured", measured["methods"][chosen], "accuracy")
        found["estimate"] = estimate.get("accuracy")
    else:
        found |= _with_margins("estimate", estimate, "accuracy")
    if alarms := truth.get("anomaly"):
        row = alarms["methods"][chosen]
        found |= {"false_alarms": _mean(row["false_alarm_rate"]), "found": _mean(row["found"])}
    found["source"] = metrics.get(f"source_test_{metric}")
    return {name: round(float(found[name]), DIGITS) for name in MEANING if found.get(name) is not None}  # type: ignore[arg-type]


def _with_margins(name: str, values: Mapping[str, Any], key: str) -> dict[str, float | None]:
    return {name: values.get(key)} | {f"{name}_{end}": values.get(end) for end in _MARGINS}


def _mean(summary: Mapping[str, float] | None) -> float | None:
    return None if summary is None else summary["mean"]

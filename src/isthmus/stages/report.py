"""Writes what a person reads, as the task's module says: `report/report.html`, one self-contained page, and the card.

`report.html` holds images, charts and style inline: it opens without a network and without JavaScript.
`label_first.csv` lists the target images to label first, with reasons; of medical images without their paths.
`model_card.md` and `model_card.json` hold the same facts of the chosen model, for people and for machines.

`scores.json` holds the few numbers that the verdict is about (`report/scores.py: MEANING`), for `dvc metrics show`.
The tables are for `dvc plots show` (`report/charts/tables.py`): loss by epoch and method, score by method, shares of
predicted classes by true class, accuracy by confidence.
"""

from pathlib import Path
from typing import ClassVar

from isthmus.core import plugins
from isthmus.core.config import Config
from isthmus.core.files import atomic_folder, write_json, write_text
from isthmus.data.scenario import Scenario
from isthmus.report.charts.tables import confusion_table, curves_table, leaderboard_table, reliability_table
from isthmus.report.scores import scores_of
from isthmus.report.tasks import ReportFiles, TaskReport
from isthmus.stages._cli import stage


class Params(Config):
    """Sections of `params.yaml` that this stage reads."""

    SECTIONS: ClassVar[dict[str, str]] = {"scenario": "scenarios.{scenario}"}

    scenario: Scenario


def run(
    params: Params,
    *,
    manifest: Path,
    audit: Path,
    quarantine: Path,
    prepared: Path,
    masks_target: Path,
    locations: Path,
    features: Path,
    shift: Path,
    trained: Path,
    choice: Path,
    metrics: Path,
    truth: Path,
    trust: Path,
    predictions: Path,
    explained: Path,
    robustness: Path,
    report: Path,
    scores: Path,
    curves: Path,
    leaderboard: Path,
    confusion: Path,
    reliability: Path,
) -> None:
    """Reads all files of a scenario and writes page, card, tables and, last, scores."""
    files = ReportFiles(
        manifest, audit, quarantine, prepared, masks_target, locations, features, shift, trained, choice, metrics,
        truth, trust, predictions, explained, robustness,
    )  # fmt: skip
    page: TaskReport = plugins.load("report.tasks", params.scenario.task).Report()
    findings = files.findings(params.scenario, page.scored)
    with atomic_folder(report) as folder:
        page.write(findings, files, folder)
    write_text(curves, curves_table(findings))
    write_text(leaderboard, leaderboard_table(findings))
    write_text(confusion, confusion_table(findings))
    write_text(reliability, reliability_table(findings))
    write_json(scores, scores_of(findings))


if __name__ == "__main__":
    stage(run)

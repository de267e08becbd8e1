"""Writes what a person reads, as the task's module says: `report/report.html`, one self-contained page, and the card.

`report.html` holds images, charts and style inline: it opens without a network and without JavaScript.
`label_first.csv` lists the target images to label first, with reasons; of medical images without their paths.
`model_card.md` and `model_card.json` hold the same facts of the chosen model, for people and for machines.
"""

from pathlib import Path
from typing import ClassVar

from isthmus.core import plugins
from isthmus.core.config import Config
from isthmus.core.files import atomic_folder
from isthmus.data.scenario import Scenario
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
) -> None:
    """Reads all files of a scenario and writes page and card."""
    files = ReportFiles(
        manifest, audit, quarantine, prepared, masks_target, locations, features, shift, trained, choice, metrics,
        truth, trust, predictions, explained, robustness,
    )  # fmt: skip
    page: TaskReport = plugins.load("report.tasks", params.scenario.task).Report()
    with atomic_folder(report) as folder:
        page.write(params.scenario, files, folder)


if __name__ == "__main__":
    stage(run)

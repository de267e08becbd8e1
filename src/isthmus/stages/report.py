"""Writes what a person reads: `report/report.html`, one self-contained page, and the model card.

`report.html` holds images, charts and style inline: it opens without a network and without JavaScript.
`label_first.csv` lists the target images to label first, with reasons; of medical images without their paths.
`model_card.md` and `model_card.json` hold the same facts of the chosen model, for people and for machines.
"""

from pathlib import Path
from typing import ClassVar

from isthmus.core.config import Config
from isthmus.core.files import atomic_folder, read_json, write_json, write_text
from isthmus.data.scenario import Scenario
from isthmus.report.explanations import explained_cases
from isthmus.report.label_list import as_csv, query_lines
from isthmus.report.model_card import as_markdown, model_card
from isthmus.report.page import Extras, report_page
from isthmus.report.results import read_findings
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
    findings = read_findings(
        params.scenario,
        manifest=manifest,
        audit=audit,
        quarantine=quarantine,
        prepared=prepared,
        shift=shift,
        trained=trained,
        choice=choice,
        metrics=metrics,
        truth=truth,
        trust=trust,
        predictions=predictions,
    )
    card = model_card(findings)
    queries = query_lines(findings, manifest, prepared, features, trained)
    extras = Extras(queries, explained_cases(findings, prepared, explained), read_json(robustness))
    listed = as_csv(queries, findings.facts["classes"], params.scenario.kind, locations)
    with atomic_folder(report) as folder:
        write_text(folder / "report.html", report_page(findings, prepared, extras))
        write_text(folder / "label_first.csv", listed)
        write_text(folder / "model_card.md", as_markdown(card))
        write_json(folder / "model_card.json", card)


if __name__ == "__main__":
    stage(run)

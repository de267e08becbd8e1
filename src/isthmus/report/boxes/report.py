"""Writes page, list and card of a task whose answers are boxes."""

from pathlib import Path
from typing import ClassVar

from isthmus.core.files import write_json, write_text
from isthmus.report.boxes.card import as_markdown, box_card
from isthmus.report.boxes.cases import box_cases
from isthmus.report.boxes.page import box_page
from isthmus.report.labels.label_list import ranked_csv
from isthmus.report.results import BOXES, Findings, Scored
from isthmus.report.tasks import ReportFiles, TaskReport


class BoxReport(TaskReport):
    """Of boxes."""

    scored: ClassVar[Scored] = BOXES

    def write(self, findings: Findings, files: ReportFiles, folder: Path) -> None:
        """Writes page, list and card."""
        kind = findings.scenario.kind
        cases = box_cases(findings, files.prepared, files.masks_target, files.trained)
        card = box_card(findings)
        rows = [(case.image_id, [f"{case.confidence:.4f}"]) for case in cases.first]
        write_text(folder / "report.html", box_page(findings, cases))
        write_text(folder / "label_first.csv", ranked_csv(rows, ["confidence"], kind, files.locations))
        write_text(folder / "model_card.md", as_markdown(card))
        write_json(folder / "model_card.json", card)

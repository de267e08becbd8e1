"""Writes page, list and card of a task whose answers are masks: the part that segmentation and change share."""

from pathlib import Path
from typing import ClassVar

from isthmus.core.files import write_json, write_text
from isthmus.report.labels.label_list import ranked_csv
from isthmus.report.masks.card import as_markdown, mask_card
from isthmus.report.masks.cases import mask_cases
from isthmus.report.masks.page import mask_page
from isthmus.report.results import MASKS, Findings, Scored
from isthmus.report.tasks import ReportFiles, TaskReport


class MaskReport(TaskReport):
    """Of masks."""

    scored: ClassVar[Scored] = MASKS

    def write(self, findings: Findings, files: ReportFiles, folder: Path) -> None:
        """Writes page, list and card."""
        kind = findings.scenario.kind
        cases = mask_cases(findings, files.prepared, files.masks_target, files.trained)
        card = mask_card(findings)
        rows = [(case.image_id, [f"{case.confidence:.4f}"]) for case in cases.first]
        write_text(folder / "report.html", mask_page(findings, cases))
        write_text(folder / "label_first.csv", ranked_csv(rows, ["confidence"], kind, files.locations))
        write_text(folder / "model_card.md", as_markdown(card))
        write_json(folder / "model_card.json", card)

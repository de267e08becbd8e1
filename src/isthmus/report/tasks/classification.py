"""One class an image: leaderboard, calibration, confusion, where the model looked, images to label first."""

from pathlib import Path
from typing import ClassVar

from isthmus.core.files import read_json, write_json, write_text
from isthmus.report.explanations import Explained, explained_cases
from isthmus.report.labels.label_list import as_csv, query_lines
from isthmus.report.model_card import as_markdown, model_card
from isthmus.report.page import Extras, report_page
from isthmus.report.results import CLASSES, Findings, Scored
from isthmus.report.tasks import ReportFiles, TaskReport


class Report(TaskReport):
    """Of classes of images."""

    scored: ClassVar[Scored] = CLASSES

    def looked(self, findings: Findings, files: ReportFiles) -> Explained:
        """Returns what shows where in an image the model looked."""
        return explained_cases(findings, files.prepared, files.explained)

    def write(self, findings: Findings, files: ReportFiles, folder: Path) -> None:
        """Writes page, list and card."""
        kind = findings.scenario.kind
        card = model_card(findings)
        queries = query_lines(findings, files.manifest, files.prepared, files.features, files.trained)
        extras = Extras(queries, self.looked(findings, files), read_json(files.robustness))
        write_text(folder / "report.html", report_page(findings, files.prepared, extras))
        listed = as_csv(queries, findings.facts["classes"], kind, files.locations)
        write_text(folder / "label_first.csv", listed)
        write_text(folder / "model_card.md", as_markdown(card))
        write_json(folder / "model_card.json", card)

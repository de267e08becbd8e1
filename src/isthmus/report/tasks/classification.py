"""One class an image: leaderboard, calibration, confusion, where the model looked, images to label first."""

from typing import ClassVar

from isthmus.core.files import read_json
from isthmus.report.explanations import Explained, explained_cases
from isthmus.report.labels.label_list import as_csv, query_lines
from isthmus.report.model_card import as_markdown, model_card
from isthmus.report.page import Extras, report_page
from isthmus.report.results import CLASSES, Findings, Scored
from isthmus.report.tasks import ReportFiles, TaskReport, Texts


class Report(TaskReport):
    """Of classes of images."""

    scored: ClassVar[Scored] = CLASSES

    def looked(self, findings: Findings, files: ReportFiles) -> Explained:
        """Returns what shows where in an image the model looked."""
        return explained_cases(findings, files.prepared, files.explained)

    def texts(self, findings: Findings, files: ReportFiles) -> Texts:
        """Returns page, list and card."""
        card = model_card(findings)
        queries = query_lines(findings, files.manifest, files.prepared, files.features, files.trained)
        extras = Extras(queries, self.looked(findings, files), read_json(files.robustness))
        listed = as_csv(queries, findings.facts["classes"], findings.scenario.kind, files.locations)
        return Texts(report_page(findings, files.prepared, extras), listed, card, as_markdown(card))

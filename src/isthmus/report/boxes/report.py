"""Page, list and card of a task whose answers are boxes."""

from typing import ClassVar

from isthmus.report.boxes.card import as_markdown, box_card
from isthmus.report.boxes.cases import box_cases
from isthmus.report.boxes.page import box_page
from isthmus.report.labels.label_list import first_by_confidence
from isthmus.report.results import BOXES, Findings, Scored
from isthmus.report.tasks import ReportFiles, TaskReport, Texts


class BoxReport(TaskReport):
    """Of boxes."""

    scored: ClassVar[Scored] = BOXES

    def texts(self, findings: Findings, files: ReportFiles) -> Texts:
        """Returns page, list and card."""
        cases = box_cases(findings, files.prepared, files.masks_target, files.trained)
        card = box_card(findings)
        first = [(case.image_id, case.confidence) for case in cases.first]
        listed = first_by_confidence(first, findings.scenario.kind, files.locations)
        return Texts(box_page(findings, cases), listed, card, as_markdown(card))

"""Page, list and card of a task whose answers are masks: the part that segmentation and change share."""

from typing import ClassVar

from isthmus.report.labels.label_list import first_by_confidence
from isthmus.report.masks.card import as_markdown, mask_card
from isthmus.report.masks.cases import mask_cases
from isthmus.report.masks.page import mask_page
from isthmus.report.results import MASKS, Findings, Scored
from isthmus.report.tasks import ReportFiles, TaskReport, Texts


class MaskReport(TaskReport):
    """Of masks."""

    scored: ClassVar[Scored] = MASKS

    def texts(self, findings: Findings, files: ReportFiles) -> Texts:
        """Returns page, list and card."""
        cases = mask_cases(findings, files.prepared, files.masks_target, files.trained)
        card = mask_card(findings)
        first = [(case.image_id, case.confidence) for case in cases.first]
        listed = first_by_confidence(first, findings.scenario.kind, files.locations)
        return Texts(mask_page(findings, cases), listed, card, as_markdown(card))

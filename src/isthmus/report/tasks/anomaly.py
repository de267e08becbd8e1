"""Good or defective: the page of classes, methods compared by AUROC, with false alarms and where defects are seen."""

from typing import ClassVar

from isthmus.report.defects import defect_cases
from isthmus.report.explanations import Explained
from isthmus.report.results import ANOMALY, Findings, Scored
from isthmus.report.tasks import ReportFiles, classification


class Report(classification.Report):
    """Of good and defective images."""

    scored: ClassVar[Scored] = ANOMALY

    def looked(self, findings: Findings, files: ReportFiles) -> Explained:
        """Returns pictures of where defects are seen."""
        return defect_cases(findings, files.prepared, files.masks_target, files.trained)

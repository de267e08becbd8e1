"""How results of a task are shown. One module a task; the folder is the registry.

Uses all rooms of the report.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from isthmus.core.files import write_json, write_text
from isthmus.data.scenario import Scenario
from isthmus.report.results import Findings, Scored, read_findings


@dataclass(frozen=True)
class ReportFiles:
    """What `report` reads, as in `dvc.yaml`."""

    manifest: Path
    audit: Path
    quarantine: Path
    prepared: Path
    masks_target: Path
    locations: Path
    features: Path
    shift: Path
    trained: Path
    choice: Path
    metrics: Path
    truth: Path
    trust: Path
    predictions: Path
    explained: Path
    robustness: Path

    def findings(self, scenario: Scenario, scored: Scored) -> Findings:
        """Reads all that a page shows but pixels and features; raises as `read_findings`."""
        return read_findings(
            scenario,
            manifest=self.manifest,
            audit=self.audit,
            quarantine=self.quarantine,
            prepared=self.prepared,
            shift=self.shift,
            trained=self.trained,
            choice=self.choice,
            metrics=self.metrics,
            truth=self.truth,
            trust=self.trust,
            predictions=self.predictions,
            scored=scored,
        )


class Texts(NamedTuple):
    """What a report consists of: the page, the list of images to label first, the card for programs and for people."""

    page: str
    label_first: str
    card: dict[str, Any]
    card_text: str


class TaskReport(ABC):
    """A module here has a final class `Report(TaskReport)`.

    Attributes:
        scored: how answers of the task are scored, and what its files hold.
    """

    scored: ClassVar[Scored]

    @abstractmethod
    def texts(self, findings: Findings, files: ReportFiles) -> Texts:
        """Returns page, list and card."""

    def write(self, findings: Findings, files: ReportFiles, folder: Path) -> None:
        """Writes `report.html`, `label_first.csv`, `model_card.md` and `model_card.json` into a folder."""
        texts = self.texts(findings, files)
        write_text(folder / "report.html", texts.page)
        write_text(folder / "label_first.csv", texts.label_first)
        write_text(folder / "model_card.md", texts.card_text)
        write_json(folder / "model_card.json", texts.card)

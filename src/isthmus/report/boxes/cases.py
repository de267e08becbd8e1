"""Images that a report on boxes shows: samples, the worst and typical ones, those to annotate first."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from isthmus.data.shards import Rows
from isthmus.evaluation.boxes import TrueBoxes, predicted_boxes
from isthmus.evaluation.scoring.boxes import Boxes
from isthmus.evaluation.selection.ensemble import open_compared
from isthmus.report.boxes.pictures import Verdicts, drawn, judged
from isthmus.report.masks.cases import shown_rows
from isthmus.report.masks.pictures import LARGE, SMALL
from isthmus.report.results import Findings
from isthmus.report.thumbnails import for_display

_SAMPLES = 6  # [image] of each domain
_NONE = np.zeros((0, 4))
_NO_TRUTH = Boxes(_NONE, np.zeros(0, np.int64))


@dataclass(frozen=True)
class BoxCase:
    """One image with its boxes.

    Attributes:
        ap50: of this image; None where its boxes are not known.
        note: how many boxes are right, wrong and missed, or how many there are.
        picture: data URI.
    """

    image_id: str
    ap50: float | None
    confidence: float
    note: str
    picture: str


@dataclass(frozen=True)
class Cases:
    """All images of the page.

    Attributes:
        samples: domain -> data URIs of training images, a source's with their boxes.
        worst: of the target's test split by AP50, without target boxes by confidence.
        typical: around the median of the same.
        first: of the target's training split, the least sure first.
    """

    samples: list[tuple[str, list[str]]]
    worst: list[BoxCase]
    typical: list[BoxCase]
    first: list[BoxCase]


def box_cases(findings: Findings, prepared: Path, boxes_target: Path, trained: Path) -> Cases:
    """Chooses and draws the images.

    Args:
        findings: of the scenario.
        prepared: of `prepare`, with the source's boxes.
        boxes_target: folder with the target's; only those of its test split are looked at.
        trained: one folder a method.
    """
    worst, typical, first = shown_rows(findings, "ap50")
    draw = _Pictures(findings, prepared, boxes_target, trained)
    return Cases(draw.samples(), draw.cases(worst), draw.cases(typical), draw.cases(first, small=True))


class _Pictures:
    """Draws images of one scenario."""

    def __init__(self, findings: Findings, prepared: Path, boxes_target: Path, trained: Path) -> None:
        self._findings = findings
        self._pixels = Rows(prepared / "shards", findings.index)
        self._source, self._all = TrueBoxes(prepared), TrueBoxes(prepared, boxes_target)
        self._chosen = findings.choice["chosen"]
        runs = open_compared(trained, findings.choice, findings.facts["classes"], len(findings.index))
        self._run = runs[self._chosen["method"]]
        self._place = {image_id: row for row, image_id in enumerate(findings.index["image_id"])}

    def samples(self) -> list[tuple[str, list[str]]]:
        """Returns training images of each domain; ids are hashes, so that the first are a fair sample."""
        facts = self._findings.manifest.set_index("image_id").loc[self._findings.index["image_id"]]
        training, domains = (facts["split"] == "train").to_numpy(), facts["domain"].to_numpy()
        found = []
        for domain in self._findings.scenario.domains:
            rows = np.flatnonzero(training & (domains == domain))[:_SAMPLES]
            images = zip(for_display(self._pixels.take(rows)), self._source.take(rows), strict=True)
            found.append((domain, [drawn(i, Verdicts(true.corners, _NONE, _NONE), SMALL) for i, true in images]))
        return found

    def cases(self, table: pd.DataFrame, small: bool = False) -> list[BoxCase]:
        """Returns these images with their boxes; small ones without the truth, which may not be looked at."""
        rows = np.array([self._place[i] for i in table["image_id"]], np.int64)
        if not len(rows):
            return []
        side, threshold = self._all.side, self._findings.trust["threshold"]
        answers = predicted_boxes(self._run, self._chosen["seed"], self._chosen["epoch"], rows, side)
        known = np.zeros(len(rows), np.bool_) if small else self._all.known(rows)
        columns = zip(table["image_id"], table["ap50"].astype(float), table["confidence"].astype(float), strict=True)
        classes: list[str] = self._findings.facts["classes"]
        names = [] if small or len(classes) == 2 else classes  # beside the background there is one, or no room
        shown, cases = for_display(self._pixels.take(rows)), []
        for n, (image_id, score, confidence) in enumerate(columns):
            found = answers[n]
            boxes = judged(found, _NO_TRUTH, threshold, names)
            boxes = Verdicts(boxes.wrong, _NONE, _NONE, (boxes.labels[1], [], []))  # right or wrong is not known
            note, value = f"{len(boxes.right)} boxes", None
            if known[n]:
                boxes, value = judged(found, self._all.take(rows[n : n + 1])[0], threshold, names), score
                note = f"{len(boxes.right)} right, {len(boxes.wrong)} wrong, {len(boxes.missed)} missed"
            picture = drawn(shown[n], boxes, SMALL if small else LARGE)
            cases.append(BoxCase(image_id, value, confidence, note, picture))
        return cases

"""Images that a report on masks shows: samples, the worst and typical ones, those to label first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from isthmus.data.masks import IGNORED, Mask, class_pixels
from isthmus.data.shards import Rows
from isthmus.evaluation.masks import TrueMasks, predicted_masks
from isthmus.evaluation.selection.ensemble import open_compared
from isthmus.evaluation.trained import grid_of
from isthmus.report.formatting import share
from isthmus.report.masks.pictures import LARGE, PREDICTED, SMALL, TRUE, Outline, outlined, wrong_pixels
from isthmus.report.results import Findings
from isthmus.report.thumbnails import for_display

WORST, TYPICAL = 6, 4  # [image] of the target's test split that are shown
FIRST = 20  # [image] of the target's training split that are to be labelled first
_SAMPLES = 12  # [image] of each domain


@dataclass(frozen=True)
class MaskCase:
    """One image with its masks.

    Attributes:
        mean_iou: of this image; None where its mask is not known.
        note: where the predicted share of a class is farthest from the true one; empty without a true mask.
        pictures: data URI and what it shows.
    """

    image_id: str
    mean_iou: float | None
    confidence: float
    note: str
    pictures: list[tuple[str, str]]


@dataclass(frozen=True)
class Samples:
    """Training images of one domain, each as its pictures; a source's with the outlines of their masks."""

    domain: str
    images: list[list[str]]


@dataclass(frozen=True)
class Cases:
    """All images of the page.

    Attributes:
        worst: of the target's test split by IoU, without target masks by confidence.
        typical: around the median of the same.
        first: of the target's training split, the least sure first.
    """

    samples: list[Samples]
    worst: list[MaskCase]
    typical: list[MaskCase]
    first: list[MaskCase]


def mask_cases(findings: Findings, prepared: Path, masks_target: Path, trained: Path) -> Cases:
    """Reads pixels, masks and answers of the images that are shown, and draws them.

    Args:
        findings: of the scenario.
        prepared: of `prepare`, with the source's masks.
        masks_target: the target's; only those of its test split are looked at.
        trained: one folder a method.
    """
    worst, typical, first = shown_rows(findings, "mean_iou")
    draw = _Pictures(findings, prepared, masks_target, trained)
    return Cases(draw.samples(), draw.cases(worst), draw.cases(typical), draw.cases(first, small=True))


def shown_rows(findings: Findings, score: str) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Returns the rows of `predictions.parquet` of the target that are shown: worst, typical, and to be labelled first.

    Args:
        findings: of the scenario.
        score: column by which test images are ordered; without target labels it is the confidence.
    """
    table = findings.predictions
    here = table[table["domain"] == findings.scenario.target]
    key = score if findings.labelled else "confidence"
    worst, typical = worst_and_typical(here[here["split"] == "test"].dropna(subset=[key]), key)
    return worst, typical, here[here["split"] == "train"].sort_values(["confidence", "image_id"])[:FIRST]


def worst_and_typical(table: pd.DataFrame, key: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the rows of the lowest value, and of the others those around the median; of few images half are worst."""
    ordered = table.sort_values([key, "image_id"])
    worst = ordered[: min(WORST, -(-len(ordered) // 2))]
    rest = ordered[len(worst) :]
    median = float(table[key].astype(float).median()) if len(table) else 0.0
    near = (rest[key].astype(float) - median).abs().sort_values(kind="stable").index[:TYPICAL]
    return worst, rest.loc[rest.index.isin(near)]


class _Pictures:
    """Draws images of one scenario."""

    def __init__(self, findings: Findings, prepared: Path, masks_target: Path, trained: Path) -> None:
        self._findings = findings
        self._classes = findings.facts["classes"]
        self._pixels = Rows(prepared / "shards", findings.index)
        self._source = TrueMasks(prepared)
        self._all = TrueMasks(prepared, masks_target)
        chosen = findings.choice["chosen"]
        run = open_compared(trained, findings.choice, self._classes, len(findings.index))[chosen["method"]]
        self._grid, self._logits = grid_of(run), run.logits(chosen["seed"], chosen["epoch"])
        self._place = {image_id: row for row, image_id in enumerate(findings.index["image_id"])}
        self._dates = 2 if findings.scenario.annotation_config().second else 1

    def samples(self) -> list[Samples]:
        """Returns training images of each domain; ids are hashes, so that the first are a fair sample."""
        facts = self._findings.manifest.set_index("image_id").loc[self._findings.index["image_id"]]
        training, domains = (facts["split"] == "train").to_numpy(), facts["domain"].to_numpy()
        found = []
        for domain in self._findings.scenario.domains:
            rows = np.flatnonzero(training & (domains == domain))[: _SAMPLES // self._dates]
            shown = zip(self._shown(rows), self._source.take(rows), strict=True)  # of the target none is scored
            images = [
                [
                    *(outlined(date, [], SMALL) for date in dates[:-1]),
                    outlined(dates[-1], [Outline(mask, TRUE)], SMALL),
                ]
                for dates, mask in shown
            ]
            found.append(Samples(domain, images))
        return found

    def cases(self, table: pd.DataFrame, small: bool = False) -> list[MaskCase]:
        """Returns these images with their outlines; small ones without the truth, which may not be looked at."""
        rows = np.array([self._place[i] for i in table["image_id"]], np.int64)
        answers = predicted_masks(self._logits, rows, self._grid, self._all.side)
        truths = None if small else self._all.take(rows)
        ids = table["image_id"].to_list()
        scores, confidences = (table[name].astype(float).to_list() for name in ("mean_iou", "confidence"))
        cases = []
        for n, dates in enumerate(self._shown(rows)):
            truth = None if truths is None or np.isnan(scores[n]) else truths[n]
            pictures = self._drawn(dates, answers[n], truth, SMALL if small else LARGE)
            note = self._note(answers[n], truth) if truth is not None else ""
            score = scores[n] if truth is not None else None
            cases.append(MaskCase(ids[n], score, confidences[n], note, pictures))
        return cases

    def _drawn(
        self, dates: Sequence[NDArray[np.uint8]], answer: Mask, truth: Mask | None, side: int
    ) -> list[tuple[str, str]]:
        names = ["earlier image", "later image"] if len(dates) == 2 else ["image"]
        plain = [(outlined(date, [], side), name) for date, name in zip(dates, names, strict=True)]
        outlines = [Outline(answer, PREDICTED, dashed=True)]
        if truth is None:
            return [*plain, (outlined(dates[-1], outlines, side), "predicted outline")]
        both = outlined(dates[-1], [Outline(truth, TRUE), *outlines], side)
        wrong = wrong_pixels(dates[-1], answer, truth, side)
        return [*plain, (both, "true and predicted outline"), (wrong, "wrong pixels")]

    def _note(self, answer: Mask, truth: Mask) -> str:
        scored = truth != IGNORED
        true, predicted = (
            np.array(class_pixels(m[scored], len(self._classes))) / scored.sum() for m in (truth, answer)
        )
        k = int(np.abs(true - predicted)[1:].argmax()) + 1
        return f"{self._classes[k]}: {share(predicted[k])} of the pixels, in truth {share(true[k])}"

    def _shown(self, rows: NDArray[np.int64]) -> list[list[NDArray[np.uint8]]]:
        """Returns of each image its dates, ready for display; brightness is stretched over all of them together."""
        pixels: NDArray[Any] = self._pixels.take(rows)
        parts = np.split(pixels, self._dates, axis=3)
        shown = for_display(np.concatenate(parts))
        return [[shown[date * len(rows) + n] for date in range(self._dates)] for n in range(len(rows))]

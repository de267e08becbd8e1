"""Refuses a candidate that a good mean carries over a class, a domain or a group that it fails on.

Hidden stratification (Oakden-Rayner et al., CHIL 2020, "Hidden stratification causes clinically meaningful failures"):
an average over all images says nothing of a subset on which a model fails.
"""

from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from isthmus.evaluation.scoring.boxes import Matches
from isthmus.evaluation.scoring.masks import pixel_accuracy
from isthmus.gates import Evidence, Reason, Rule, Verdict
from isthmus.gates.scored import NO_LABELS, Scored

NAME = "per_class_floor"


class Config(Rule):
    """Recall of every class and accuracy of every slice; what has too few images is not judged."""

    needs_answers: ClassVar[bool] = True
    judges_files: ClassVar[bool] = True

    min_recall: float = Field(0.2, ge=0, le=1, description="[share] of each class, in each role")
    min_slice_accuracy: float = Field(0.2, ge=0, le=1, description="[share] of each domain and each group")
    min_images: int = Field(10, ge=1, description="images that a class or slice needs to be evaluated")

    def reasons(self, evidence: Evidence) -> list[Reason]:
        """Returns the worst class and the worst slice of each role, and each that is below its floor."""
        return evidence.silence(NAME) or [
            reason for role in evidence.answers.roles for reason in self._of_role(evidence, role)
        ]

    def _of_role(self, evidence: Evidence, role: str) -> list[Reason]:
        scored = evidence.answers
        rows = scored.labelled(role)
        if not len(rows):
            text = f"{NO_LABELS[role]}: the recall of each class is unknown"
            return [Reason(NAME, "person", None, self.min_recall, text)]
        if scored.candidate.counts is not None:
            return self._of_masks(scored, scored.candidate.counts, rows, role)
        if scored.candidate.matches is not None:
            return self._of_boxes(scored, scored.candidate.matches, rows, role)
        right, labels = scored.right(scored.candidate)[rows], scored.label[rows]
        masks = [(f"recall of class '{name}'", labels == k) for k, name in enumerate(scored.classes)]
        found = [(what, float(right[mask].mean()), self.min_recall) for what, mask in self._enough(masks)]
        found += [
            (what, float(right[mask].mean()), self.min_slice_accuracy) for what, mask in self._slices(scored, rows)
        ]
        return self._worst(role, found)

    def _slices(self, scored: Scored, rows: NDArray[np.int64]) -> Iterator[tuple[str, np.ndarray]]:
        """Yields what to call each domain and group with enough images, and which of the rows it has."""
        for column in ("domain", "group"):
            values = scored.images[column].to_numpy()[rows]
            for value, images in sorted(Counter(values).items()):
                if images >= self.min_images:  # counted first: a mask for each of many groups has their square
                    yield f"accuracy of {column} '{value}'", values == value

    def _of_masks(self, scored: Scored, counts: NDArray[np.int64], rows: NDArray[np.int64], role: str) -> list[Reason]:
        """Recall is of pixels of images that show the class; accuracy of a slice likewise."""
        shown = counts[rows]
        masks = [(name, shown[:, k].sum(axis=1) > 0) for k, name in enumerate(scored.classes)]
        found = []
        for name, mask in self._enough(masks):
            place = scored.classes.index(name)
            pixels = shown[mask, place].sum(axis=0)
            found.append((f"recall of class '{name}'", float(pixels[place] / pixels.sum()), self.min_recall))
        for what, mask in self._slices(scored, rows):
            found.append((what, float(pixel_accuracy(shown[mask].sum(axis=0))), self.min_slice_accuracy))
        return self._worst(role, found)

    def _of_boxes(self, scored: Scored, matches: Matches, rows: NDArray[np.int64], role: str) -> list[Reason]:
        """Recall is of the boxes of images that show the class, at the score from which boxes are counted.

        A slice has the harmonic mean of precision and recall.
        """
        shown, count = matches.scores >= scored.candidate.boxes_from, len(matches.true_boxes)
        hits = shown & matches.right[0]
        found = []
        masks = [(k, name, matches.true_boxes[rows, k] > 0) for k, name in enumerate(scored.classes[1:], 1)]
        for k, name, mask in masks:
            if mask.sum() >= self.min_images:
                right = np.bincount(matches.images[hits & (matches.classes == k)], minlength=count)[rows]
                recall = float(right[mask].sum() / matches.true_boxes[rows[mask], k].sum())
                found.append((f"recall of class '{name}'", recall, self.min_recall))
        right, answered = (np.bincount(matches.images[here], minlength=count)[rows] for here in (hits, shown))
        true = matches.true_boxes.sum(axis=1)[rows]
        for what, mask in self._slices(scored, rows):
            both = answered[mask].sum() + true[mask].sum()
            f1 = float(2 * right[mask].sum() / both) if both else 1.0
            found.append((what.replace("accuracy", "F1"), f1, self.min_slice_accuracy))
        return self._worst(role, found)

    def _worst(self, role: str, found: list[tuple[str, float, float]]) -> list[Reason]:
        if not found:
            text = f"no class of the {role} has {self.min_images} labelled images"
            return [Reason(NAME, "person", None, self.min_recall, text)]
        low = [item for item in found if item[1] < item[2]]
        return [self._reason(role, *item) for item in low or [min(found, key=lambda item: item[1] - item[2])]]

    def _enough(self, masks: list[tuple[str, np.ndarray]]) -> Iterator[tuple[str, np.ndarray]]:
        return ((what, mask) for what, mask in masks if mask.sum() >= self.min_images)

    def _reason(self, role: str, what: str, number: float, floor: float) -> Reason:
        verdict: Verdict = "pass" if number >= floor else "refuse"
        lowest = "is the lowest and reaches" if verdict == "pass" else "is below"
        return Reason(NAME, verdict, number, floor, f"{role}: {what} {number:.3f} {lowest} the floor {floor:.3f}")

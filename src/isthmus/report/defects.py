"""Pictures of where a detector sees defects: the map over the image, and its outline beside the true one."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from isthmus.data.masks import IGNORED
from isthmus.data.shards import Rows
from isthmus.evaluation.explanation.shown_cases import cases
from isthmus.evaluation.masks import TrueMasks
from isthmus.evaluation.trained import open_trained
from isthmus.models.upsampling import upsampled
from isthmus.report.explanations import Case, Explained, coloured, overlay
from isthmus.report.masks.pictures import PREDICTED, TRUE, Outline, outlined
from isthmus.report.results import Findings
from isthmus.report.thumbnails import SIDE, for_display, thumbnails

_IMAGES = 12
_FAINT = 0.4  # [share] of ink where an image is not called defective
_CAPTION = (
    "Of each, left the image, then in orange its places that are farthest from all remembered good ones, faint where"
    " the image is called good, and the outline of what is above the threshold (orange, dashed) with that of the true"
    " defect where a mask tells it (blue)."
)
_CAUTION = "A cell of the map is as wide as a patch of the network: outlines are coarse."


def defect_cases(findings: Findings, prepared: Path, masks_target: Path, trained: Path) -> Explained:
    """Draws target test images that the chosen model gets wrong and right, or without labels the surest and least sure.

    Raises:
        DataError: a file of `train` is missing or of another time.
    """
    classes, chosen = findings.facts["classes"], findings.choice["chosen"]
    shown = cases(findings.predictions, findings.scenario.target, _IMAGES)
    place = {image_id: row for row, image_id in enumerate(findings.index["image_id"])}
    rows = np.array([place[image_id] for image_id in shown["image_id"]], dtype=np.int64)
    run = open_trained(trained, [chosen["method"]], classes, len(findings.index))[chosen["method"]]
    maps = run.maps(chosen["seed"], chosen["epoch"])
    side, height = round(maps.shape[1] ** 0.5), findings.facts["height"]
    truths = TrueMasks(prepared, masks_target).take(rows)
    found = []
    for row, image, truth, fact in zip(
        rows,
        for_display(Rows(prepared / "shards", findings.index).take(rows)),
        truths,
        shown.to_dict("records"),
        strict=True,
    ):
        values = maps[row].reshape(side, side)
        pixels = upsampled(torch.from_numpy(maps[row]).reshape(-1, 1), (side, side), height)[0, 0].numpy()
        outlines = [Outline((pixels > 0).astype(np.uint8), PREDICTED, dashed=True)]
        if (truth != IGNORED).any():
            outlines.insert(0, Outline(truth, TRUE))
        pictures = [
            *thumbnails(np.stack([coloured(image), overlay(image, _ink(values))])),
            outlined(image, outlines, SIDE),
        ]
        label = None if pd.isna(fact["label"]) else classes[int(fact["label"])]
        found.append(Case(fact["case"], classes[fact["predicted"]], label, float(fact["confidence"]), pictures))
    return Explained(None, found, ("target image", "map of defects", "outlines"), _CAPTION, _CAUTION)


def _ink(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns a map in [0, 1], from an image's median to its most unusual place."""
    low, high = float(np.median(values)), float(values.max())
    return np.clip((values - low) / max(high - low, 1e-6), 0, 1) * np.float32(1.0 if high > 0 else _FAINT)

"""Masks of whole images, of any size: what segmentation and change share.

Where the windows of an image (`windows.py`) overlap, the probabilities are averaged. The mask has the image's own size.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from isthmus.data.image import Box, Image
from isthmus.data.masks import IGNORED
from isthmus.models.upsampling import upsampled
from isthmus.registry.model.answers import ModelParts, TaskAnswers
from isthmus.registry.model.mask_text import as_text
from isthmus.registry.model.windows import Windows, windows_of


class MaskAnswers(TaskAnswers):
    """One mask an example.

    `mask` is a PNG in base64 of the image's own size: each pixel the place of its class among the model's classes, 255
    where there is no data or the model does not look. `share_<class>` is the share of each class among the answered
    pixels, `confidence` the mean of the highest calibrated probability, `domain_score` as of classification.
    """

    at_once: ClassVar[int] = 1

    @staticmethod
    def outputs(classes: Sequence[str]) -> dict[str, str]:
        """Returns the columns; see `TaskAnswers`."""
        shares = {f"share_{name}": "double" for name in classes}
        sizes = {"height": "long", "width": "long"}
        return {"mask": "string"} | sizes | shares | {"confidence": "double", "domain_score": "double"}

    def prepare(self, parts: ModelParts, example: Sequence[Image], domain: str) -> Windows:
        """Returns the windows of one example, of two images for change; see `windows_of`."""
        return windows_of(parts, example, domain)

    def answer(self, parts: ModelParts, prepared: list[Any], domain: str) -> pd.DataFrame:
        """Returns a row an example; see the class."""
        return pd.concat([self._row(parts, windows, domain) for windows in prepared], ignore_index=True)

    def _row(self, parts: ModelParts, windows: Windows, domain: str) -> pd.DataFrame:
        typical, logits = parts.predict(windows.pixels, domain)
        rows, columns = parts.classifier.grid
        side = windows.pixels.shape[1]
        cells = torch.from_numpy(logits).reshape(len(windows.boxes), rows * columns, -1)
        total = np.zeros((len(parts.classes), windows.height, windows.width), np.float32)
        seen = np.zeros((windows.height, windows.width), np.float32)
        for cell, box, square in zip(cells, windows.boxes, windows.squares, strict=True):
            pixels = upsampled(cell, (rows, columns), side).softmax(dim=1)
            here, inside = back(pixels, square, box)
            area = (slice(box.top, box.top + box.height), slice(box.left, box.left + box.width))
            total[:, *area] += here * inside
            seen[area] += inside
        answered = seen > 0 if windows.valid is None else (seen > 0) & windows.valid
        mask = np.where(answered, total.argmax(axis=0), IGNORED).astype(np.uint8)
        sure = (total.max(axis=0) / np.maximum(seen, 1))[answered]
        known = mask[answered]
        shares = {f"share_{n}": float((known == k).mean()) if known.size else 0.0 for k, n in enumerate(parts.classes)}
        row = {"mask": as_text(mask), "height": windows.height, "width": windows.width, **shares}
        row |= {"confidence": float(sure.mean()) if sure.size else 0.0, "domain_score": float(typical.mean())}
        return pd.DataFrame([row])


def back(
    pixels: torch.Tensor, square: tuple[float, float, float, float], box: Box
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns probabilities of a prepared square at the pixels of its window, and 1 where the square reaches them.

    Args:
        pixels: float32 `[1, K, S, S]`.
        square: top, left, bottom, right of the square in the window [pixel].
        box: the window.
    """
    top, left, bottom, right = square
    rows = (torch.arange(box.height) + 0.5 - top) / (bottom - top) * 2 - 1  # -1 to 1 over the square
    columns = (torch.arange(box.width) + 0.5 - left) / (right - left) * 2 - 1
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=2)[None].to(pixels.dtype)
    found = torch.nn.functional.grid_sample(pixels, grid, "bilinear", "border", align_corners=False)[0]
    inside = ((rows.abs() <= 1)[:, None] & (columns.abs() <= 1)[None, :]).numpy().astype(np.float32)
    return found.numpy(), inside

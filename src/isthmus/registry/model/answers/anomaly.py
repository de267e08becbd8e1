"""Good or defective, with what classification says of an image, a score, and a picture of where the defect is."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from isthmus.data.image import Box, Image
from isthmus.data.masks import IGNORED
from isthmus.models.upsampling import upsampled
from isthmus.registry.model.answers import ModelParts, classification
from isthmus.registry.model.mask_answers import back
from isthmus.registry.model.mask_text import as_text


class Prepared(NamedTuple):
    """A prepared image, and where its square lies in the image: top, left, bottom, right [pixel]."""

    pixels: NDArray[Any]
    square: tuple[float, float, float, float]
    whole: Box


class Answers(classification.Answers):
    """One row of classes an image, as of classification, and beside it:

    `score`: log(distance / threshold) of the most unusual cell, above 0 where the image is called defective; it ranks
    images. `map`: PNG in base64 of the image's own size, 1 where a defect is seen, 0 elsewhere, 255 where the model
    does not look.
    """

    @staticmethod
    def outputs(classes: Sequence[str]) -> dict[str, str]:
        """Returns the columns; see `TaskAnswers`."""
        return classification.Answers.outputs(classes) | {"score": "double", "map": "string"}

    def prepare(self, parts: ModelParts, example: Sequence[Image], domain: str) -> Prepared:
        """Returns the prepared image and its place."""
        (image,) = example
        pixels = super().prepare(parts, example, domain)
        return Prepared(pixels, parts.kind.box(image), Box(0, 0, image.height, image.width))

    def answer(self, parts: ModelParts, prepared: list[Any], domain: str) -> pd.DataFrame:
        """Returns a row an image; see the class."""
        typical, logits, maps = parts.located(np.stack([one.pixels for one in prepared]), domain)
        rows, columns = parts.classifier.grid
        drawn = []
        for one, cells in zip(prepared, maps, strict=True):
            square = upsampled(torch.from_numpy(cells)[:, None], (rows, columns), one.pixels.shape[0])
            found, inside = back(square, one.square, one.whole)
            drawn.append(as_text(np.where(inside > 0, found[0] > 0, IGNORED).astype(np.uint8)))
        answered = self.rows(parts, logits, typical, domain)
        return answered.assign(score=maps.max(axis=1).astype(np.float64), map=pd.Series(drawn, dtype=object))

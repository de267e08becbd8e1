"""Class, calibrated probabilities, the conformal set of classes, and how typical an image is of the domain."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from isthmus.core.seeds import derive_seed
from isthmus.data.image import Image
from isthmus.evaluation.confidence.conformal import answered, scores
from isthmus.evaluation.metrics import softmax
from isthmus.registry.model.answers import ModelParts, TaskAnswers
from isthmus.registry.model.raw_images import check_tile


class Answers(TaskAnswers):
    """One row of classes an image.

    Probabilities are softmax(logits / T) with the domain's temperature. `set` names the classes that hold the true one
    with the promised coverage (`publish/fitted_confidence.py`), separated by `|` (one in a name is written `\\|`);
    `answered` says that it is one class. `domain_score` is the share of the domain's held-out images that are at least
    as far from its training images (`evaluation/shift/membership.py`): 1 typical, near 0 unlike anything seen there.
    """

    @staticmethod
    def outputs(classes: Sequence[str]) -> dict[str, str]:
        """Returns the columns; see `TaskAnswers`."""
        probabilities = {f"probability_{name}": "double" for name in classes}
        return {"class": "string"} | probabilities | {"set": "string", "answered": "boolean", "domain_score": "double"}

    def prepare(self, parts: ModelParts, example: Sequence[Image], domain: str) -> Any:
        """Returns the prepared image, `[H, W, C]`."""
        (image,) = example
        if parts.tiles is not None:
            check_tile(image, parts.tiles, domain)
        return parts.kind.prepare(image, parts.fitted[domain])

    def answer(self, parts: ModelParts, prepared: list[Any], domain: str) -> pd.DataFrame:
        """Returns a row an image; see the class."""
        typical, logits = parts.predict(np.stack(prepared), domain)
        return self.rows(parts, logits, typical, domain)

    def rows(
        self, parts: ModelParts, logits: NDArray[np.float64], typical: NDArray[np.float64], domain: str
    ) -> pd.DataFrame:
        """Returns the columns of each image; see the class.

        Args:
            parts: of the model.
            logits: float64 `[N, K]`, over the domain's temperature.
            typical: `[N]`, of `ModelParts.predict`.
            domain: whose images they are.
        """
        probabilities = softmax(logits)
        names = [parts.classes[place] for place in probabilities.argmax(axis=1)]
        columns = {f"probability_{name}": probabilities[:, place] for place, name in enumerate(parts.classes)}
        inside = _sets(parts, probabilities, domain)
        told = [name.replace("\\", "\\\\").replace("|", "\\|") for name in parts.classes]
        sets = ["|".join(name for name, here in zip(told, row, strict=True) if here) for row in inside]
        promised = {"set": pd.Series(sets, dtype=object), "answered": answered(inside), "domain_score": typical}
        return pd.DataFrame({"class": pd.Series(names, dtype=object), **columns, **promised})


def _sets(parts: ModelParts, probabilities: NDArray[np.float64], domain: str) -> NDArray[np.bool_]:
    promise = parts.spec["promise"]
    threshold = promise["threshold"][parts.role(domain)]
    if threshold is None or not len(probabilities):
        return np.ones(probabilities.shape, np.bool_)
    # one by one, the random part of `aps` drawn by the answer itself: an image's set does not hang on its batch
    rows = [scores(row[None], promise["score"], derive_seed(0, row.tobytes().hex())) for row in probabilities]
    inside: NDArray[np.bool_] = np.concatenate(rows) <= threshold
    return inside

"""Opens the half step as what `train` wrote is opened: its answers are the mean of those of its parts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.evaluation.selection.choice import HALF_STEP, parts
from isthmus.evaluation.trained import Trained, open_trained


class Averaged(Trained):
    """Several trained methods as one: logits are averaged, embeddings stand side by side."""

    def __init__(self, name: str, trained: Mapping[str, Trained], of: Mapping[str, tuple[int, float]]) -> None:
        """Takes method -> (epoch, share); all were trained with the same seeds, as one `train` section says."""
        self._parts = [(trained[method], epoch, share) for method, (epoch, share) in of.items()]
        optimises = sorted({validator for part, _, _ in self._parts for validator in part.facts.optimises})
        last = max(epoch for _, epoch, _ in self._parts)
        update = {"method": name, "optimises": optimises, "epochs": [last]}
        self.facts = self._parts[0][0].facts.model_copy(update=update)

    def logits(self, seed: int, epoch: int) -> NDArray[np.float32]:
        """Returns float32 `[N, K]`."""
        mean: NDArray[np.float32] = np.sum(
            [np.float32(share) * part.logits(seed, own) for part, own, share in self._parts], axis=0
        )
        return mean

    def embeddings(self, seed: int, epoch: int) -> NDArray[np.float32]:
        """Returns float32 `[N, sum of B]`."""
        return np.concatenate([part.embeddings(seed, own) for part, own, _ in self._parts], axis=1)

    def curves(self, seed: int) -> list[dict[str, Any]]:
        """Returns none: each part has its own."""
        return []


def open_compared(folder: Path, made: Mapping[str, Any], classes: Sequence[str], count: int) -> dict[str, Trained]:
    """Opens all that a choice was made among: the trained methods, and the half step where there was one.

    Args:
        folder: `out/S/train`, one folder a method.
        made: `choice.json`.
        classes: of the scenario, in the order of the logits.
        count: N, number of prepared images.

    Raises:
        DataError: as `open_trained`.
    """
    runs = open_trained(folder, [name for name in made["best_epoch"] if name != HALF_STEP], classes, count)
    return runs | ({HALF_STEP: Averaged(HALF_STEP, runs, parts(made, HALF_STEP))} if made["half_step"] else {})

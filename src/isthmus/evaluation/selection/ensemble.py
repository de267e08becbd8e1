"""Opens an average of trained methods as what `train` wrote is opened: everything after the choice reads it alike."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.core.accuracy import LEAST_PROBABILITY
from isthmus.evaluation.metrics import softmax
from isthmus.evaluation.selection.choice import ENSEMBLE, Part, parts
from isthmus.evaluation.trained import Trained, open_trained


class Ensemble(Trained):
    """Several trained networks as one with one seed: probabilities are averaged, embeddings stand side by side.

    Args:
        trained: methods by name.
        of: the networks. Embeddings are those of the first seed alone, one network a method.
    """

    def __init__(self, trained: Mapping[str, Trained], of: Sequence[Part]) -> None:
        self._trained, self._of = trained, of
        first = trained[of[0].method].facts
        optimises = sorted({name for part in of for name in trained[part.method].facts.optimises})
        epoch = max(part.epoch for part in of)
        update = {"method": ENSEMBLE, "optimises": optimises, "epochs": [epoch], "seeds": [of[0].seed]}
        self.facts = first.model_copy(update=update)

    def logits(self, seed: int, epoch: int) -> NDArray[np.float32]:
        """Returns float32 `[N, K]`, or of cells, logarithms of the mean probabilities."""
        found = [softmax(self._trained[part.method].logits(part.seed, part.epoch)) for part in self._of]
        mean: NDArray[np.float32] = np.log(np.maximum(np.mean(found, axis=0), LEAST_PROBABILITY)).astype(np.float32)
        return mean

    def extents(self, seed: int, epoch: int) -> NDArray[np.float32]:
        """Returns float32 `[N * T, 4]`, the mean over the networks."""
        found = [self._trained[part.method].extents(part.seed, part.epoch) for part in self._of]
        mean: NDArray[np.float32] = np.mean(found, axis=0, dtype=np.float32)
        return mean

    def embeddings(self, seed: int, epoch: int) -> NDArray[np.float32]:
        """Returns float32 `[N, sum of B]`."""
        shown = [part for part in self._of if part.seed == seed]
        return np.concatenate([self._trained[p.method].embeddings(seed, p.epoch) for p in shown], axis=1)

    def curves(self, seed: int) -> list[dict[str, Any]]:
        """Returns none: each part has its own."""
        return []


def seeds_of(run: Trained) -> list[int]:
    """Returns the seeds of a method that an ensemble averages: all, or of full mode on labels the first alone.

    Heads cost next to nothing beside the frozen backbone, which runs once, and networks for masks are small; in full
    mode on labels each network runs by itself.
    """
    return run.facts.seeds if run.facts.mode == "frozen" or run.facts.cells > 1 else run.facts.seeds[:1]


def open_compared(folder: Path, made: Mapping[str, Any], classes: Sequence[str], count: int) -> dict[str, Trained]:
    """Opens all that a choice was made among: the trained methods, and the ensemble where there is one.

    Args:
        folder: `out/S/train`, one folder a method.
        made: `choice.json`.
        classes: of the scenario, in the order of the logits.
        count: N, number of prepared images.

    Raises:
        DataError: as `open_trained`.
    """
    runs = open_trained(folder, [name for name in made["epochs"] if name != ENSEMBLE], classes, count)
    return runs | ({ENSEMBLE: Ensemble(runs, parts(made, ENSEMBLE))} if made["ensemble"] else {})

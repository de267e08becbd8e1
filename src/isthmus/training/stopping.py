"""Early stopping: what is watched, when it is enough, and what then stands in the place of the epochs left out."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from isthmus.adapt.predictions import diversity, entropy


def watched_value(name: str, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Returns a value whose fall is good; NaN without rows.

    Args:
        name: `source_val_loss`, the mean cross-entropy of labelled source rows; of target rows, without labels:
            `entropy`, mean H(p) [nat], or `information_maximisation`, mean H(p) - H(mean p) (Liang et al., ICML 2020).
        logits: float32 `[N, K]`.
        labels: int64 `[N]`, of source rows; the other two do not look at them.
    """
    if not len(logits):
        return float("nan")
    given = torch.from_numpy(logits).double()
    if name == "source_val_loss":
        return float(functional.cross_entropy(given, torch.from_numpy(labels)))
    mean = float(entropy(given).mean())
    return mean - float(diversity(given)) if name == "information_maximisation" else mean


def should_stop(curves: Sequence[dict[str, Any]], patience: int) -> bool:
    """Says whether the last `patience` kept epochs did not beat the best one before them; never with patience 0."""
    values = [line["early_stop_watch"] for line in curves if line.get("early_stop_watch") is not None]
    return bool(values) and 0 < patience <= len(values) - 1 - int(np.argmin(values))


def fill_left_out(folder: Path, curves: list[dict[str, Any]], epochs: int, kept: Sequence[int]) -> int:
    """Puts the best kept epoch in the place of those that were left out, so that all seeds have the same candidates.

    Args:
        folder: files of the kept epochs, `EEE.*`.
        curves: one line an epoch; lines for the epochs left out are added, with `repeats`: the best epoch.
        epochs: in all.
        kept: numbers of the epochs that are candidates.

    Returns:
        The best epoch.
    """
    watched = [line for line in curves if line.get("early_stop_watch") is not None]
    best = min(watched, key=lambda line: float(line["early_stop_watch"]))
    for epoch in range(int(curves[-1]["epoch"]) + 1, epochs + 1):
        curves.append(best | {"epoch": epoch, "repeats": best["epoch"]})
        if epoch in kept:
            for path in sorted(folder.glob(f"{best['epoch']:03d}.*")):
                shutil.copy(path, folder / path.name.replace(f"{best['epoch']:03d}", f"{epoch:03d}", 1))
    return int(best["epoch"])

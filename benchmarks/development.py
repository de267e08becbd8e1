"""Scores every kept epoch on the target's TRAINING split, for tuning defaults on the declared development pairs only.

python benchmarks/development.py industrial steel

Test labels are never looked at, and no other pair is accepted: defaults that were tuned on a pair say nothing there.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import recall_score

ROOT = Path(__file__).parents[1]
DEVELOPMENT_PAIRS = ("industrial", "steel")


def main(names: list[str], out: Path = ROOT / "out") -> None:
    """Prints balanced accuracy by method and kept epoch, mean of the seeds."""
    for name in names or DEVELOPMENT_PAIRS:
        if name not in DEVELOPMENT_PAIRS:
            raise SystemExit(f"'{name}' is no development pair. Allowed: {', '.join(DEVELOPMENT_PAIRS)}")
        print(name)
        for method, scores in table(out / name).items():
            print(f"  {method:14s}", "  ".join(f"{epoch}: {score:.3f}" for epoch, score in scores.items()))


def table(folder: Path) -> dict[str, dict[int, float]]:
    """Returns method -> epoch -> balanced accuracy on the target's training split."""
    ids = pd.read_parquet(folder / "prepared" / "index.parquet")["image_id"]
    split = pd.read_parquet(folder / "manifest.parquet").set_index("image_id")["split"].loc[ids].to_numpy()
    labels = pd.read_parquet(folder / "labels_target.parquet").drop_duplicates("image_id", keep=False)
    truth = labels.set_index("image_id")["label"].reindex(ids).to_numpy(dtype=float)
    rows = np.flatnonzero((split == "train") & ~np.isnan(truth))
    scores: dict[str, dict[int, float]] = {}
    for run in sorted((folder / "train").glob("*/run.json")):
        facts = json.loads(run.read_text(encoding="utf-8"))
        scores[facts["method"]] = {
            epoch: float(np.mean([score(run.parent, seed, epoch, rows, truth) for seed in facts["seeds"]]))
            for epoch in facts["epochs"]
        }
    return scores


def score(folder: Path, seed: int, epoch: int, rows: np.ndarray, truth: np.ndarray) -> float:
    """Returns the balanced accuracy of one seed at one epoch on these rows."""
    logits = np.load(folder / "seeds" / str(seed) / "epochs" / f"{epoch:03d}.logits.npy")
    return float(recall_score(truth[rows].astype(int), logits[rows].argmax(1), average="macro"))


if __name__ == "__main__":
    main(sys.argv[1:])

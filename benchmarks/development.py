"""Scores every kept epoch on the target's TRAINING split, for tuning defaults on the declared development pairs only.

python -m benchmarks.development industrial steel

Test labels are never looked at, and no other pair is accepted: defaults that were tuned on a pair say nothing there.
"""

import sys
from pathlib import Path

import numpy as np

from benchmarks.methods import accuracies
from isthmus.core.files import read_json

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
    scores: dict[str, dict[int, float]] = {}
    for run in sorted((folder / "train").glob("*/run.json")):
        facts = read_json(run)
        scores[facts["method"]] = {
            epoch: float(np.mean(accuracies(folder, run.parent, epoch=epoch)[0])) for epoch in facts["epochs"]
        }
    return scores


if __name__ == "__main__":
    main(sys.argv[1:])

"""How often `isthmus watch` raises an alarm over 200 days without a shift, and after how many images it finds one.

`python -m benchmarks.watch --pairs FOLDER [--write .] PAIR...` on pairs that `benchmarks.choice` left in FOLDER. A
champion knows the target by its training images and by half of its other ones, drawn at random; each day brings images
drawn from the other half, on days with a shift images of the source in place of the target's. Every champion sees 200
days without a shift and 100 with one. Frozen features pass through the trained head as the target's, as served ones do.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.choice import table
from benchmarks.sections import write_section
from isthmus.core.files import read_json
from isthmus.core.seeds import derive_seed
from isthmus.data.manifest import INDEX, read_table
from isthmus.data.shards import Rows
from isthmus.evaluation.shift.membership import fit_typicality
from isthmus.evaluation.trained import read_samples
from isthmus.models.trained import load_candidate
from isthmus.monitoring.drift import WatchConfig, judge_drift
from isthmus.serving.batch_statistics import histogram

CHAMPIONS, DAYS, SHIFTED = 100, 200, 100
COUNTS = (10, 20, 50, 100)  # images a day
METHOD = "mcc"


def embedded(pair: Path) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Returns embeddings of all images as the target's, predicted classes, and the rows: target train, target rest."""
    choice = read_json(pair / "choice.json")
    index = read_table(pair / "prepared" / "index.parquet", INDEX)
    features = Rows(pair / "features", index).take(np.arange(len(index)))
    model = load_candidate(pair / "train", [(METHOD, 0, choice["epochs"][METHOD])], pair / "features", 0)
    target = model.domains[-1]
    with torch.no_grad():
        seen = torch.from_numpy(np.array(features))
        domains = torch.full((len(seen),), model.domains.index(target), dtype=torch.int64)
        found = model.classifier(seen, domains)
    samples = read_samples(pair / "manifest.parquet", pair / "prepared")
    train = samples.rows([target], "train")
    rest = np.setdiff1d(np.flatnonzero(samples.domain == target), train)
    return found.features.numpy(), found.logits.numpy().argmax(axis=1), train, rest


def measured(pair: Path) -> list[tuple[str, ...]]:
    """Returns a row for each number of images a day."""
    seen, predicted, train, rest = embedded(pair)
    others = np.setdiff1d(np.arange(len(seen)), np.concatenate([train, rest]))
    rows = []
    for count in COUNTS:
        rng = np.random.default_rng(derive_seed(0, "watch", pair.name, count))
        config = WatchConfig(min_images=count)
        false, found, days = 0, 0, 0
        for _ in range(CHAMPIONS):
            halves = rng.permutation(rest)
            held_out, coming = halves[: len(halves) // 2], halves[len(halves) // 2 :]
            typical = fit_typicality(seen[train], predicted[train], seen[held_out])
            scores = typical.scores(seen)
            if len(coming) < count:
                continue
            days += 1
            for _ in range(DAYS):
                day = scores[rng.choice(coming, count, replace=False)]
                false += judge_drift(histogram(day), len(held_out), config).verdict == "drift"
            for _ in range(SHIFTED):
                day = scores[rng.choice(others, count, replace=False)]
                found += judge_drift(histogram(day), len(held_out), config).verdict == "drift"
        if days:
            alarms, caught = 100 * false / (days * DAYS), 100 * found / (days * SHIFTED)
            rows.append((pair.name, str(len(rest) // 2), str(count), f"{alarms:.2f}", f"{caught:.0f}"))
    return rows


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watch", description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="folder of pairs that benchmarks.choice left")
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/benchmarks.md gets the table")
    parser.add_argument("names", nargs="+", metavar="PAIR")
    given = parser.parse_args()
    rows = [row for name in given.names for row in measured(given.pairs / name)]
    head = ("pair", "held-out images", "images a day", "days with a false alarm [%]", "shifted days found [%]")
    text = table(head, *rows)
    print(text)
    if given.write:
        write_section(given.write / "docs" / "benchmarks.md", "watch", text)


if __name__ == "__main__":
    main()

"""How often `isthmus watch` raises an alarm over 200 days without a shift, and after how many images it finds one.

`python -m benchmarks.watch --pairs FOLDER [--write .] PAIR...` on pairs that `benchmarks.choice` left in FOLDER. A
champion knows the target by its training images and by half of its other ones, drawn at random; each day brings images
drawn from the other half, or, on days with a shift, images of a third domain that the champion never saw: the target of
another pair of the family. Every champion sees 200 days without a shift and 100 with one. Frozen features pass through
the trained head as the target's, as served ones do. A pair without a third domain shows false alarms alone.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.sections import table, write_section
from isthmus.core.files import read_json
from isthmus.core.seeds import derive_seed
from isthmus.data.manifest import INDEX, read_table
from isthmus.data.shards import Rows
from isthmus.evaluation.shift.membership import fit_typicality
from isthmus.evaluation.trained import read_samples
from isthmus.models.trained import TrainedClassifier, load_candidate
from isthmus.monitoring.drift import WatchConfig, judge_drift
from isthmus.serving.batch_statistics import histogram

CHAMPIONS, DAYS, SHIFTED = 100, 200, 100
COUNTS = (10, 20, 50, 100)  # images a day
METHOD = "mcc"


class Seen(NamedTuple):
    """What a champion makes of images.

    Attributes:
        embeddings: float32 `[N, B]`, of all of the pair's images as the target's.
        predicted: int64 `[N]`.
        train: rows of the target's training images.
        rest: rows of its other ones.
        third: name of an unseen domain -> float32 `[M, B]`.
    """

    embeddings: NDArray[np.float32]
    predicted: NDArray[np.int64]
    train: NDArray[np.int64]
    rest: NDArray[np.int64]
    third: dict[str, NDArray[np.float32]]


def seen_by_champion(pair: Path) -> Seen:
    """Returns what the champion of a pair makes of its images, and of other domains of the family."""
    choice = read_json(pair / "choice.json")
    model = load_candidate(pair / "train", [(METHOD, 0, choice["epochs"][METHOD])], pair / "features", 0)
    samples, all_rows = read_samples(pair / "manifest.parquet", pair / "prepared"), _features(pair)
    embeddings, logits = _answered(model, all_rows)
    target = model.domains[-1]
    train = samples.rows([target], "train")
    rest = np.setdiff1d(np.flatnonzero(samples.domain == target), train)
    third = {}
    for other in sorted(pair.parent.glob(f"{pair.name.partition('_')[0]}_*")):
        if (other / "choice.json").is_file() and not other.name.endswith(("_partial", "_open")):
            facts = read_samples(other / "manifest.parquet", other / "prepared")
            for name in sorted(set(facts.domain) - {*model.domains, *third}):
                third[str(name)] = _answered(model, _features(other)[facts.domain == name])[0]
    return Seen(embeddings, logits.argmax(axis=1), train, rest, third)


def _features(pair: Path) -> NDArray[np.float32]:
    index = read_table(pair / "prepared" / "index.parquet", INDEX)
    return np.array(Rows(pair / "features", index).take(np.arange(len(index))))


@torch.no_grad()
def _answered(model: TrainedClassifier, features: NDArray[np.float32]) -> tuple[NDArray[np.float32], Any]:
    domains = torch.full((len(features),), len(model.domains) - 1, dtype=torch.int64)
    found = model.classifier(torch.from_numpy(features), domains)
    return found.features.numpy(), found.logits.numpy()


def measured(pair: Path) -> list[tuple[str, ...]]:
    """Returns a row for each number of images a day."""
    seen, rows = seen_by_champion(pair), []
    for count in COUNTS:
        if len(seen.rest) // 2 < 2 * count:
            continue  # else each day would bring nearly the same images
        rng = np.random.default_rng(derive_seed(0, "watch", pair.name, count))
        config = WatchConfig(min_images=count)
        false, found = 0, dict.fromkeys(seen.third, 0)
        for _ in range(CHAMPIONS):
            halves = rng.permutation(seen.rest)
            held_out, coming = halves[: len(halves) // 2], halves[len(halves) // 2 :]
            typical = fit_typicality(seen.embeddings[seen.train], seen.predicted[seen.train], seen.embeddings[held_out])
            scores = typical.scores(seen.embeddings[coming])
            false += sum(_alarm(rng.choice(scores, count, False), len(held_out), config) for _ in range(DAYS))
            for name, embeddings in seen.third.items():
                new = typical.scores(embeddings)
                found[name] += sum(_alarm(rng.choice(new, count, False), len(held_out), config) for _ in range(SHIFTED))
        shifts = ", ".join(f"{name} {100 * number / CHAMPIONS / SHIFTED:.0f}" for name, number in found.items())
        alarms = f"{100 * false / CHAMPIONS / DAYS:.2f}"
        rows.append((pair.name, str(len(seen.rest) // 2), str(count), alarms, shifts))
    return rows


def _alarm(scores: NDArray[Any], held_out: int, config: WatchConfig) -> bool:
    return judge_drift(histogram(scores), held_out, config).verdict == "drift"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watch", description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="folder of pairs that benchmarks.choice left")
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/benchmarks.md gets the table")
    parser.add_argument("names", nargs="+", metavar="PAIR")
    given = parser.parse_args()
    rows = [row for name in given.names for row in measured(given.pairs / name)]
    head = (
        "pair",
        "held-out images",
        "images a day",
        "days with a false alarm [%]",
        "days of an unseen domain that are found [%]",
    )
    text = table(head, *rows)
    print(text)
    if given.write:
        write_section(given.write / "docs" / "benchmarks.md", "watch", text)


if __name__ == "__main__":
    main()

"""How often `isthmus watch` raises an alarm over 200 days without a shift, and after how many images it finds one.

`python -m benchmarks.watch --pairs FOLDER [--write .] PAIR...` on pairs that `benchmarks.choice` left in FOLDER. A
champion knows the target by its training images and by half of its other ones, drawn at random; each day brings images
drawn from the other half, or, on days with a shift, images of a third domain that the champion never saw: the target of
another pair of the family. Every champion sees 200 days without a shift and 100 with one. Frozen features pass through
the trained head as the target's, as served ones do. A pair without a third domain shows false alarms alone.

`--again` measures what training again wins back in place of that: the champion that `select` chose for a pair meets a
third domain; the pair with the same source and that domain as its target is the same training with the new images as
target. Both answer for the test images of the third domain; this is reported and chooses nothing.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.real_pairs import Pair, labels_of
from benchmarks.sections import table, write_section
from isthmus.core.files import read_json
from isthmus.core.seeds import derive_seed
from isthmus.data.manifest import INDEX, read_table
from isthmus.data.shards import Rows
from isthmus.evaluation.metrics import group_weights, interval, resampled_balanced_accuracy
from isthmus.evaluation.selection.choice import parts
from isthmus.evaluation.shift.membership import fit_typicality
from isthmus.evaluation.trained import read_samples
from isthmus.models.trained import TrainedClassifier, load_candidate
from isthmus.monitoring.drift import WatchConfig, judge_drift
from isthmus.serving.batch_statistics import histogram

CHAMPIONS, DAYS, SHIFTED = 100, 200, 100
COUNTS = (10, 20, 50, 100)  # images a day
METHOD = "mcc"
RESAMPLES = 1000
_ALARMS = (
    "pair",
    "held-out images",
    "images a day",
    "days with a false alarm [%]",
    "days of an unseen domain that are found [%]",
)
_AGAIN = (
    "champion's pair",
    "new domain",
    "`watch` on its training images",
    "its test images",
    "champion [%]",
    "trained again [%]",
    "won back [points]",
)


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


def trained_again(pair: Path) -> list[tuple[str, ...]]:
    """Returns a row for each third domain that a pair with the same source has as its target."""
    family, source = pair.name.split("_")[:2]
    seen = seen_by_champion(pair)
    rows: list[tuple[str, ...]] = []
    rng = np.random.default_rng(derive_seed(0, "again", pair.name))
    held_out = rng.permutation(seen.rest)[: len(seen.rest) // 2]
    typical = fit_typicality(seen.embeddings[seen.train], seen.predicted[seen.train], seen.embeddings[held_out])
    for name, embeddings in seen.third.items():
        later = pair.parent / f"{family}_{source}_{name}"
        if not (later / "choice.json").is_file():
            continue
        samples = read_samples(later / "manifest.parquet", later / "prepared")
        of_domain = np.flatnonzero(samples.domain == name)
        coming = np.isin(of_domain, samples.rows([name], "train"))
        verdict = judge_drift(histogram(typical.scores(embeddings[coming])), len(held_out), WatchConfig()).verdict
        test = samples.rows([name], "test")
        labels = labels_of(Pair(later.name, family, later), samples.image_id)[test]
        answers = [_answered(champion(one), _features(later)[test])[1].argmax(axis=1) for one in (pair, later)]
        before, after, gain = compared(np.stack(answers), labels, samples.group[test])
        found = f"{verdict}, {int(coming.sum())} images"
        rows.append((pair.name, name, found, str(len(test)), f"{before:.1f}", f"{after:.1f}", gain))
    return rows


def champion(pair: Path) -> TrainedClassifier:
    """Returns the model that `select` chose for a pair."""
    made = read_json(pair / "choice.json")
    networks = parts(made, made["chosen"]["method"])
    return load_candidate(pair / "train", networks, pair / "features", made["chosen"]["seed"])


def compared(answers: NDArray[Any], labels: NDArray[Any], groups: NDArray[Any]) -> tuple[float, float, str]:
    """Returns two balanced accuracies [%], and their difference with its 95% interval (paired bootstrap by group).

    Args:
        answers: `[2, N]`, predicted classes.
        labels: `[N]`.
        groups: `[N]`.
    """
    once, drawn = np.ones((1, len(labels))), group_weights(groups, RESAMPLES, 0)
    one, many = (100 * resampled_balanced_accuracy(answers == labels, labels, weights) for weights in (once, drawn))
    low, high = interval(many[:, 1] - many[:, 0])
    before, after = one[0]
    return float(before), float(after), f"{after - before:+.1f} ({low:+.1f} to {high:+.1f})"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watch", description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="folder of pairs that benchmarks.choice left")
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/benchmarks.md gets the table")
    parser.add_argument("--again", action="store_true", help="what training again wins back, not the alarms")
    parser.add_argument("names", nargs="+", metavar="PAIR")
    given = parser.parse_args()
    rows = [row for name in given.names for row in (trained_again if given.again else measured)(given.pairs / name)]
    text = table(_AGAIN if given.again else _ALARMS, *rows)
    print(text)
    if given.write:
        write_section(given.write / "docs" / "benchmarks.md", "trained again" if given.again else "watch", text)


if __name__ == "__main__":
    main()

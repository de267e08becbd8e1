"""Measures what five labels a class of the target are worth on real pairs.

`python -m benchmarks.few_labels --mirror MIRROR --out out/choice [steel office ...] [--write .]` works in the folder of
`benchmarks.choice`, whose features and unsupervised results it uses. Labels are drawn at random from the target's
TRAINING split, several times; each draw trains every method as the stage `train` does. What is settled looks at the
training labels that were not drawn; the tables are of the test split.
"""

import argparse
import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from benchmarks.choice import measured
from benchmarks.methods import params_of
from benchmarks.real_pairs import DATA_SETS, Pair, labels_of, pairs
from benchmarks.sections import table, write_section
from isthmus.core.accuracy import balanced_accuracy
from isthmus.core.files import atomic_file, read_json
from isthmus.data.labels.given import GIVEN_LABELS
from isthmus.data.manifest import write_table
from isthmus.evaluation.metrics import softmax
from isthmus.evaluation.selection.ensemble import open_compared
from isthmus.evaluation.trained import Samples, open_trained, read_samples
from isthmus.stages import train

LABELS = 5  # a class
DRAWS = 3
SHIPPED = "zscore + mcc"  # the answer of params.yaml
METHODS = ("zscore", "mcc", "mme", "prototypes")
EVERY_DRAW = ("zscore", "mcc")  # the others train on the first draw alone, which halves the time
ANSWERS = {  # methods that are trained with the labels; the mean of their probabilities over all seeds answers
    **{name: (name,) for name in METHODS},
    "zscore + mcc": ("zscore", "mcc"),
    "zscore + mcc + prototypes": ("zscore", "mcc", "prototypes"),
    "zscore + mcc + mme": ("zscore", "mcc", "mme"),
    "mcc + prototypes": ("mcc", "prototypes"),
    "mcc + mme": ("mcc", "mme"),
}


@dataclass(frozen=True)
class Target:
    """A pair's target.

    Attributes:
        labels: int64 `[N]`, true classes of all images.
        pool: places of the training split, `test` of the test split.
    """

    pair: Pair
    samples: Samples
    labels: np.ndarray
    classes: list[str]
    pool: np.ndarray
    test: np.ndarray


def target_of(pair: Pair) -> Target:
    """Reads what is known of a pair's target."""
    scenario = yaml.safe_load((pair.folder / "params.yaml").read_text())["scenarios"][pair.name]
    samples = read_samples(pair.folder / "manifest.parquet", pair.folder / "prepared")
    pool, test = (samples.rows([scenario["target"]], split) for split in ("train", "test"))
    return Target(pair, samples, labels_of(pair, samples.image_id), scenario["classes"], pool, test)


def drawn(labels: np.ndarray, pool: np.ndarray, seed: int, count: int = LABELS) -> np.ndarray:
    """Returns the places of `count` images a class, or of all where there are fewer, drawn at random from the pool."""
    generator = np.random.default_rng(seed)
    parts = [generator.permutation(pool[labels[pool] == k])[:count] for k in np.unique(labels[pool])]
    return np.sort(np.concatenate(parts))


def train_all(target: Target, draw: int) -> None:
    """Trains the methods on a draw and keeps their mean probabilities over seeds; what is there is not done again."""
    folder = target.pair.folder / "few" / str(draw)
    rows, given = drawn(target.labels, target.pool, draw), folder / "labels_train.parquet"
    labels = pd.array(target.labels[rows], dtype="Int32")
    write_table(given, pd.DataFrame({"image_id": target.samples.image_id[rows], "label": labels}), GIVEN_LABELS)
    for method in METHODS if draw == 0 else EVERY_DRAW:
        if not (path := folder / f"{method}.npy").is_file():
            with atomic_file(path) as partial, partial.open("wb") as stream:
                np.save(stream, _trained(target, method, given))


def _trained(target: Target, method: str, given: Path) -> np.ndarray:
    """Returns the mean of the seeds' probabilities, `[N, K]`."""
    pair, work = target.pair, given.parent / "work"
    document = yaml.safe_load((pair.folder / "params.yaml").read_text())
    document["methods"], document["train"]["keep"] = {method: document["methods"].get(method, {})}, 1
    work.mkdir(exist_ok=True)
    (work / "params.yaml").write_text(yaml.safe_dump(document))
    with Path(os.devnull).open("w") as silent, contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        train.run(
            params_of(train.Params, work / "params.yaml", scenario=pair.name, method=method),
            scenario=pair.name,
            method=method,
            manifest=pair.folder / "manifest.parquet",
            prepared=pair.folder / "prepared",
            features=pair.folder / "features",
            labels_train=given,
            checkpoints=work / "checkpoints",
            trained=work / method,
        )
    run = open_trained(work, [method], target.classes, len(target.labels))[method]
    mean: np.ndarray = softmax(run.all_logits(run.facts.epochs[-1])).mean(axis=0)
    shutil.rmtree(work)
    return mean


def scores(target: Target, draws: int) -> list[dict[str, dict[str, float]]]:
    """Returns for each draw: answer -> balanced accuracy [%] on the training images not drawn, and on test."""
    made = read_json(target.pair.folder / "choice.json")
    runs = open_compared(target.pair.folder / "train", made, target.classes, len(target.labels))
    chosen = runs[made["chosen"]["method"]]
    without = {"source_only": runs["source_only"].all_logits(made["epochs"]["source_only"])}
    without["chosen"] = chosen.all_logits(made["chosen"]["epoch"])
    found = []
    for draw in range(draws):
        folder = target.pair.folder / "few" / str(draw)
        trained = {name: np.load(folder / f"{name}.npy") for name in (METHODS if draw == 0 else EVERY_DRAW)}
        known = {name: methods for name, methods in ANSWERS.items() if {*methods} <= {*trained}}
        answers = {name: np.mean([trained[m] for m in methods], axis=0)[None] for name, methods in known.items()}
        rest = np.setdiff1d(target.pool, drawn(target.labels, target.pool, draw))
        found.append(
            {
                name: {
                    split: 100
                    * float(np.mean([balanced_accuracy(p[at].argmax(axis=1), target.labels[at]) for p in of]))
                    for split, at in (("rest", rest), ("test", target.test))
                }
                for name, of in (without | answers).items()
            }
        )
    return found


Scores = dict[str, list[dict[str, dict[str, float]]]]  # pair -> by draw what `scores` returns


def interval(values: np.ndarray) -> str:
    """Returns the mean over pairs with its 95% interval by Student's t."""
    if len(values) < 2:
        return f"{values.mean():+.1f}"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{values.mean():+.1f} ({values.mean() - half:+.1f} to {values.mean() + half:+.1f})"


def settled(found: Scores) -> str:
    """Returns as Markdown the answers by the training labels that were not drawn, and what each family settles on.

    Of the first draw, on which every method was trained.
    """
    frame = pd.DataFrame({pair: {name: of["rest"] for name, of in draws[0].items()} for pair, draws in found.items()}).T
    family = frame.index.str.split("_").str[0]
    gain = frame[list(ANSWERS)].sub(frame["chosen"], axis=0)
    by_family = gain.groupby(family).mean()
    rows = [
        (n, f"{by_family[n].mean():+.1f}", f"{gain[n].min():+.1f}", f"{(gain[n] > 0).sum()} of {len(gain)}")
        for n in ANSWERS
    ]
    left_out = []
    for left in by_family.index if len(by_family) > 1 else ():
        name = by_family.drop(index=left).mean().idxmax()
        left_out.append((left, name, f"{by_family.loc[left, name]:+.1f}", f"{by_family.loc[left].max():+.1f}"))
    head = ("answer, trained with the labels", "gain, mean of families", "lowest", "pairs with a gain")
    other = ("family left out", "settled on the others", "its gain there", "largest gain there")
    return f"{table(head, *rows)}\n\n{table(other, *left_out)}"


def tested(found: Scores) -> str:
    """Returns each pair's test split as Markdown, and the gain over all in two sentences."""
    rows, gains, best = [], [], []
    for pair, draws in found.items():
        means = _means(draws, "test")
        gain = np.array([draw[SHIPPED]["test"] - draw["chosen"]["test"] for draw in draws])
        cells = [f"{means[name]:.1f}" for name in ("chosen", "source_only", *METHODS, SHIPPED)]
        rows.append((pair, *cells, f"{gain.mean():+.1f} ({gain.min():+.1f} to {gain.max():+.1f})"))
        gains.append(gain.mean())
        best.append(max(draws[0][name]["test"] for name in METHODS) - draws[0]["chosen"]["test"])
    head = ("pair", "chosen without labels", "source_only", *METHODS, SHIPPED, "gain over chosen")
    family = pd.Series([pair.split("_")[0] for pair in found])
    text = (
        f"{SHIPPED} with labels gains on {sum(g > 0 for g in gains)} of {len(gains)} pairs, {interval(np.array(gains))}"
        f" points in the mean over pairs, {pd.Series(gains).groupby(family).mean().mean():+.1f} over families; at worst"
        f" {min(gains):+.1f}. The best single method of each pair, picked by its test labels, gains on"
        f" {sum(b > 0 for b in best)} of {len(best)}, {interval(np.array(best))}."
    )
    return f"{text}\n\n{table(head, *rows)}"


def _means(draws: list[dict[str, dict[str, float]]], split: str) -> dict[str, float]:
    return {name: float(np.mean([draw[name][split] for draw in draws if name in draw])) for name in draws[0]}


def main() -> None:
    """Runs the data sets that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few_labels", description=__doc__)
    parser.add_argument("--mirror", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--out", type=Path, required=True, help="working folder; what is there is not done again")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/benchmarks.md gets the tables")
    parser.add_argument("sets", nargs="*", metavar="DATA_SET", help=f"default: all of {', '.join(DATA_SETS)}")
    given = parser.parse_args()
    made = pairs(given.mirror.resolve(), given.out.resolve(), given.params.resolve(), given.sets or list(DATA_SETS))
    targets = []
    for pair in made:
        with Path(os.devnull).open("w") as silent, contextlib.redirect_stdout(silent):
            measured(pair)
        targets.append(target_of(pair))
    for draw in range(given.draws):
        for target in targets:
            train_all(target, draw)
            print(f"{target.pair.name}, draw {draw}", flush=True)
    found = {target.pair.name: scores(target, given.draws) for target in targets}
    text = f"{tested(found)}\n\n{settled(found)}"
    print(text)
    if given.write:
        write_section(given.write / "docs" / "benchmarks.md", "few labels", text)


if __name__ == "__main__":
    main()

"""Whether a search of settings pays: random settings of one method, chosen by each objective, against those shipped.

`python -m benchmarks.tune --pairs FOLDER --out out/tune [--method mcc] [--trials 12] [--write .] PAIR...` on pairs that
`benchmarks.choice` left in FOLDER. Every trial is scored by all validators and by 25 random target labels, so that all
objectives see the same trials; settings are drawn from the ranges that `isthmus tune` has by default. Balanced accuracy
is on the target's TRAINING labels, less the 25: test labels settle nothing.
"""

import argparse
import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.methods import no_labels, params_of
from benchmarks.real_pairs import Pair, labels_of
from benchmarks.sections import table, write_section
from isthmus.core import plugins
from isthmus.core.accuracy import balanced_accuracy
from isthmus.core.files import read_json, write_json
from isthmus.core.seeds import derive_seed
from isthmus.evaluation.guards import TaskGuards
from isthmus.evaluation.selection.candidates import candidate, views_of
from isthmus.evaluation.selection.choice import refusals
from isthmus.evaluation.trained import open_trained, read_samples
from isthmus.stages import select, train
from isthmus.tune import Settings

LABELS = 25  # that score: half of fifty
VALIDATORS = ("bnm", "class_clusters", "dev", "entropy", "information_maximisation", "snd", "source_accuracy")
_SETTING = {"seeds": [0]}


def trials(pair: Path, method: str, count: int, out: Path) -> list[dict[str, Any]]:
    """Returns what each trial's settings, scores and accuracies are; the first has the settings shipped."""
    kept = out / pair.name / f"{method}.json"
    found: list[dict[str, Any]] = read_json(kept) if kept.is_file() else []
    settings = Settings(pair / "params.yaml", pair.name, method)
    ranges = settings.default_ranges()
    for number in range(len(found), count):
        rng = np.random.default_rng(derive_seed(0, "tune", pair.name, method, number))
        values = {key: float(np.exp(rng.uniform(np.log(r.low), np.log(r.high)))) for key, r in ranges.items()}
        found.append(_trial(pair, method, settings, values if number else {}, out / pair.name))
        write_json(kept, found)
        print(
            pair.name, number, {key: round(value, 3) for key, value in found[-1].items() if key != "values"}, flush=True
        )
    return found


def _trial(pair: Path, method: str, settings: Settings, values: dict[str, float], out: Path) -> dict[str, Any]:
    params = settings.with_values(values | {})
    params = params.model_copy(update={"train": params.train.model_copy(update=_SETTING)})
    with Path(os.devnull).open("w", encoding="utf-8") as silent, contextlib.redirect_stderr(silent):
        train.run(
            params,
            scenario=pair.name,
            method=method,
            manifest=pair / "manifest.parquet",
            prepared=pair / "prepared",
            features=pair / "features",
            labels_train=no_labels(pair),
            checkpoints=out / "checkpoints",
            trained=out / "train" / method,
        )
    scenario, chosen = params.scenario, params_of(select.Params, pair / "params.yaml", scenario=pair.name).select
    samples = read_samples(pair / "manifest.parquet", pair / "prepared")
    run = open_trained(out / "train", [method], scenario.classes, len(samples.label))[method]
    guards: TaskGuards = plugins.load("evaluation.guards", scenario.task).Guards()
    validators = {name: plugins.load("evaluation.validators", name).Config().build() for name in VALIDATORS}
    views = views_of(samples, scenario.source, scenario.target, chosen.max_images)
    measured = candidate(run, views, validators, guards, chosen.significance)
    rows = samples.rows([scenario.target], "train")
    true = labels_of(Pair(pair.name, "", pair), samples.image_id)[rows]
    predicted = run.all_logits(run.facts.epochs[-1])[0][rows].argmax(axis=1)
    seen = np.zeros(len(rows), bool)
    seen[np.random.default_rng(derive_seed(0, "labels", pair.name)).permutation(len(rows))[:LABELS]] = True
    return {
        "values": values,
        "refused": len(refusals(measured)),
        "labels": _accuracy(predicted, true, seen),
        "accuracy": 100 * _accuracy(predicted, true, ~seen),
        **measured.scores,
    }


def _accuracy(predicted: NDArray[np.int64], true: NDArray[np.int64], rows: NDArray[np.bool_]) -> float:
    return balanced_accuracy(predicted[rows], true[rows])


def summary(found: dict[str, list[dict[str, Any]]]) -> str:
    """Returns a row an objective as Markdown."""
    count = min(map(len, found.values()))
    rows = []
    for objective in ("labels", *VALIDATORS):
        gains, best = [], []
        for tried in found.values():
            passed = [trial for trial in tried if not trial["refused"] and trial[objective] is not None] or tried[:1]
            chosen = max(passed, key=lambda trial: trial[objective])
            gains.append(chosen["accuracy"] - tried[0]["accuracy"])
            best.append(max(trial["accuracy"] for trial in tried) - tried[0]["accuracy"])
        name = f"{LABELS} labels" if objective == "labels" else objective
        above = sum(gain > 0 for gain in gains)
        rows.append(
            (name, f"{np.mean(gains):+.1f}", f"{min(gains):+.1f}", f"{max(gains):+.1f}", f"{above} of {len(gains)}")
        )
    rows.append(
        ("the best trial, by true labels", f"{np.mean(best):+.1f}", f"{min(best):+.1f}", f"{max(best):+.1f}", "")
    )
    head = ("objective", "gain over the settings shipped, mean", "lowest", "highest", "pairs above")
    return f"{len(found)} pairs, {count} trials each, one seed.\n\n" + table(head, *rows)


def main() -> None:
    """Runs the trials that are not there yet and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tune", description=__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="folder of pairs that benchmarks.choice left")
    parser.add_argument("--out", type=Path, required=True, help="working folder; what is there is not done again")
    parser.add_argument("--method", default="mcc")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/benchmarks.md gets the table")
    parser.add_argument("names", nargs="+", metavar="PAIR")
    given = parser.parse_args()
    found = {name: trials(given.pairs / name, given.method, given.trials, given.out) for name in given.names}
    text = summary(found)
    print(f"\n{text}")
    if given.write:
        write_section(given.write / "docs" / "benchmarks.md", "tune", text)


if __name__ == "__main__":
    main()

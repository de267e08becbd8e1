"""Targets with other classes than the source, partial or open (half of them absent or unknown), and uneven sources.

`python -m benchmarks.label_sets --mirror MIRROR --out out/choice steel office` drops the second half of the classes, in
alphabetical order, from the target (partial) or from the source (open) of the first two directions of each data set, or
keeps of the source's classes fewer and fewer images, of the last a ninth (`--kind imbalanced`). It
trains with the shipped settings, and prints balanced accuracy over the known classes, what the choice gains over
source-only with its 95% interval (paired bootstrap by group), and how well the confidence of the answer separates
images of known classes from unknown ones (AUROC; .5: not at all). `--out` may be that of `benchmarks.choice`, whose
features are used again.
"""

import argparse
import contextlib
import os
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from benchmarks.choice import train_and_choose
from benchmarks.methods import params_of
from benchmarks.real_pairs import DATA_SETS, Pair, labels_of, pairs
from benchmarks.sections import table, write_section
from isthmus.core.files import read_json, write_json
from isthmus.data.manifest import INDEX, MANIFEST, TARGET_LABELS, read_table, write_table
from isthmus.evaluation.metrics import group_weights, interval, resampled_balanced_accuracy, softmax
from isthmus.evaluation.scoring.anomaly import auroc
from isthmus.evaluation.selection.choice import SOURCE_ONLY, Part, parts
from isthmus.evaluation.selection.ensemble import Ensemble
from isthmus.evaluation.trained import open_trained, read_samples
from isthmus.stages import select

METHODS = (SOURCE_ONLY, "zscore", "mcc")
SPLITS = ("train", "test")
RESAMPLES = 1000
OTHER_CLASSES = ("partial", "open")
KINDS = (*OTHER_CLASSES, "imbalanced")
LAST = 1 / 9  # [share] of the last class that an imbalanced source keeps
DIRECTIONS = 2  # of each data set


def variant(pair: Pair, kind: str, out: Path) -> Pair:
    """Writes a pair whose target lacks half of the classes (partial), whose source does (open) or has few of some."""
    folder = out / f"{pair.name}_{kind}"
    document = yaml.safe_load((pair.folder / "params.yaml").read_text())
    scenario = document["scenarios"].pop(pair.name)
    kept = (len(scenario["classes"]) + 1) // 2
    rows = read_table(pair.folder / "manifest.parquet", MANIFEST)
    labels = labels_of(pair, rows["image_id"].to_numpy())
    reduced = scenario["target"] if kind == "partial" else scenario["source"][0]
    within = _long_tailed(labels, len(scenario["classes"])) if kind == "imbalanced" else labels < kept
    stays = (rows["domain"].to_numpy() != reduced) | within
    if kind == "open":
        scenario["classes"] = scenario["classes"][:kept]
    document["scenarios"][folder.name] = scenario
    (folder / "prepared").mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    rows, labels = rows[stays].reset_index(drop=True), labels[stays]
    write_table(folder / "manifest.parquet", rows, MANIFEST)
    truth = pd.DataFrame({"image_id": rows["image_id"], "label": labels.astype(np.int32)}).astype({"label": "Int32"})
    write_table(folder / "labels.parquet", truth, TARGET_LABELS)
    index = read_table(pair.folder / "prepared" / "index.parquet", INDEX)
    write_table(folder / "prepared" / "index.parquet", index[index["image_id"].isin(rows["image_id"])], INDEX)
    write_json(folder / "prepared" / "facts.json", {})
    for link in ("prepared/shards", "features"):
        if not (folder / link).is_symlink():
            (folder / link).symlink_to((pair.folder / link).resolve())
    return Pair(folder.name, pair.family, folder)


def _long_tailed(labels: NDArray[np.int64], classes: int) -> NDArray[np.bool_]:
    """Returns which images stay, drawn at random: all of the first class, `LAST` of the last, between them evenly."""
    share = LAST ** (np.arange(classes) / (classes - 1))
    stays: NDArray[np.bool_] = np.random.default_rng(0).random(len(labels)) < share[labels]
    return stays


def scored(pair: Pair) -> tuple[Any, ...]:
    """Returns a row of the table: each answer on the target's training and test split, gains of the choice, AUROC."""
    scenario = params_of(select.Params, pair.folder / "params.yaml", scenario=pair.name).scenario
    samples = read_samples(pair.folder / "manifest.parquet", pair.folder / "prepared")
    labels, classes = labels_of(pair, samples.image_id), len(scenario.classes)
    trained = open_trained(pair.folder / "train", METHODS, scenario.classes, len(labels))
    made = read_json(pair.folder / "choice.json")
    networks = {
        method: [Part(method, seed, made["epochs"][method]) for seed in trained[method].facts.seeds]
        for method in METHODS
    }
    chosen = made["chosen"]["method"]
    networks["chosen"] = networks[SOURCE_ONLY] if chosen == SOURCE_ONLY else parts(made, chosen)
    logits = {name: Ensemble(trained, of).logits(0, 0) for name, of in networks.items()}
    answers = np.stack([values.argmax(axis=1) for values in logits.values()])
    scores, gains = {}, []
    for split in SPLITS:
        at = samples.rows([scenario.target], split)
        at = at[labels[at] < classes]
        once, drawn = np.ones((1, len(at))), group_weights(samples.group[at], RESAMPLES, 0)
        one, many = (
            100 * resampled_balanced_accuracy(answers[:, at] == labels[at], labels[at], weights)
            for weights in (once, drawn)
        )
        scores[split] = one[0]
        low, high = interval(many[:, -1] - many[:, 0])
        gains.append(f"{one[0, -1] - one[0, 0]:+.1f} ({low:+.1f} to {high:+.1f})")
    cells = [f"{train:.1f} / {test:.1f}" for train, test in zip(*scores.values(), strict=True)]
    here = samples.rows([scenario.target], "train")
    known = labels[here] < classes
    separated = f"{auroc(softmax(logits['chosen'][here]).max(axis=1), known):.2f}" if not known.all() else ""
    return pair.name, f"{1 - known.mean():.0%}", *cells, *gains, separated


def main() -> None:
    """Runs the data sets that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.label_sets", description=__doc__)
    parser.add_argument("--mirror", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--out", type=Path, required=True, help="working folder; what is there is not done again")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/benchmarks.md gets the table")
    parser.add_argument("--kind", action="append", choices=KINDS, help="default: partial and open")
    parser.add_argument("sets", nargs="+", metavar="DATA_SET", help=f"of {', '.join(DATA_SETS)}")
    given = parser.parse_args()
    gains = (f"chosen - source_only, {split}" for split in SPLITS)
    lines = [("pair", "unknown", *METHODS, "chosen", *gains, "AUROC known / unknown")]
    out = given.out.resolve()
    for name in given.sets:
        for pair in islice(pairs(given.mirror.resolve(), out, given.params.resolve(), [name]), DIRECTIONS):
            for kind in given.kind or OTHER_CLASSES:
                with Path(os.devnull).open("w", encoding="utf-8") as silent, contextlib.redirect_stdout(silent):
                    made = variant(pair, kind, out)
                    train_and_choose(made, METHODS)
                lines.append(scored(made))
                print(*lines[-1], flush=True)
    print(f"\n{table(*lines)}")
    if given.write:
        write_section(given.write / "docs" / "benchmarks.md", "label sets", table(*lines))


if __name__ == "__main__":
    main()

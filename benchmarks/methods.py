"""Trains every feature method on prepared scenarios, frozen, default options, and writes time and accuracy to a log.

`python -m benchmarks.methods --params params.yaml --log docs/log.md steel=out/steel industrial=out/industrial`: for
each scenario a folder with what `ingest`, `prepare` and `embed` wrote (only read), or one of `benchmarks.choice`, which
needs no `--params`. Each method runs as its stage does, all seeds of `params.yaml`. Accuracy is balanced, on the
target's TRAINING split, last epoch, and needs that split's labels: only for pairs declared for development; no test
label is read. `--only` for some methods.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import yaml

from benchmarks.sections import write_section
from isthmus.adapt import Shape
from isthmus.core import plugins
from isthmus.core.accuracy import balanced_accuracy
from isthmus.core.config import Config, load_params
from isthmus.core.files import read_json
from isthmus.data.labels.given import GIVEN_LABELS
from isthmus.data.manifest import write_table
from isthmus.stages import train

C = TypeVar("C", bound=Config)

Row = dict[str, float | str]
Score = Callable[[np.ndarray, np.ndarray], float]


def feature_methods() -> list[str]:
    """Returns the names of all methods that run on cached features."""
    shape = Shape(classes=2, bottleneck=2, sources=1, target_count=1, seed=0)
    names = plugins.names("adapt.methods")
    return [n for n in names if plugins.load("adapt.methods", n).Config().build(shape).needs == "features"]


def params_of(kind: type[C], params: Path, **names: str) -> C:
    """Returns what a stage reads of a `params.yaml`, for a scenario and, where the stage has one, a method."""
    # Every stage's Params has it; it is no member of Config, which other sections share.
    sections: dict[str, str] = kind.SECTIONS  # type: ignore[attr-defined]
    return load_params(kind, params, {field: place.format(**names) for field, place in sections.items()})


def no_labels(folder: Path) -> Path:
    """Writes the labels that `train` reads, none of them, and returns the file."""
    path = folder / "labels_train.parquet"
    nothing = {"image_id": pd.array([], dtype="string"), "label": pd.array([], dtype="Int32")}
    write_table(path, pd.DataFrame(nothing), GIVEN_LABELS)
    return path


def trained(params: Path, scenario: str, method: str, folder: Path, work: Path) -> float:
    """Runs the stage `train` for one method into `work`; returns the time [s]."""
    document = yaml.safe_load(params.read_text())
    document["methods"] = {method: {}}
    own = work / "params.yaml"
    own.write_text(yaml.safe_dump(document))
    plugins.load("adapt.methods", method)  # what it imports is no part of the time
    start = time.monotonic()
    train.run(
        params_of(train.Params, own, scenario=scenario, method=method),
        scenario=scenario,
        method=method,
        manifest=folder / "manifest.parquet",
        prepared=folder / "prepared",
        features=folder / "features",
        labels_train=no_labels(work),
        checkpoints=work / "checkpoints",
        trained=work / method,
    )
    return time.monotonic() - start


def balanced(logits: np.ndarray, truth: np.ndarray) -> float:
    """Returns the balanced accuracy of the likeliest classes."""
    return balanced_accuracy(logits.argmax(1), truth)


def accuracies(
    folder: Path, run: Path, split_read: str = "train", score: Score = balanced, epoch: int | None = None
) -> tuple[list[float], list[float]]:
    """Returns a score by seed at an epoch, the last by default: one split of the target, the source's validation."""
    index = pd.read_parquet(folder / "prepared" / "index.parquet")
    manifest = pd.read_parquet(folder / "manifest.parquet").set_index("image_id").loc[index["image_id"]]
    kept = folder / "labels_target.parquet"  # of a project; folders of `benchmarks.choice` have labels.parquet
    labels = pd.read_parquet(kept if kept.is_file() else folder / "labels.parquet")
    labels = labels.drop_duplicates("image_id", keep=False)
    facts = read_json(run / "run.json")
    truth = labels.set_index("image_id")["label"].reindex(index["image_id"]).to_numpy(dtype=float)
    is_target = (manifest["domain"] == facts["domains"][-1]).to_numpy()
    split = manifest["split"].to_numpy()
    truth = np.where(is_target, truth, manifest["label"].to_numpy(dtype=float, na_value=np.nan))
    target = is_target & (split == split_read) & ~np.isnan(truth)
    source = ~is_target & (split == "val")
    at = facts["epochs"][-1] if epoch is None else epoch
    kept = [np.load(run / f"seeds/{s}/epochs/{at:03d}.logits.npy") for s in facts["seeds"]]
    return tuple([score(logits[rows], truth[rows]) for logits in kept] for rows in (target, source))  # type: ignore[return-value]


def measure(params: Path, scenario: str, folder: Path, methods: list[str]) -> list[Row]:
    """Returns one row a method."""
    rows: list[Row] = []
    for method in methods:
        with tempfile.TemporaryDirectory() as work:
            seconds = trained(params, scenario, method, folder, Path(work))
            target, source = accuracies(folder, Path(work) / method)
        rows.append(
            {
                "method": method,
                "seconds": seconds,
                "target": float(np.mean(target)),
                "low": min(target),
                "high": max(target),
                "source": float(np.mean(source)),
            }
        )
        print(scenario, *(f"{k} {v:.3f}" if isinstance(v, float) else v for k, v in rows[-1].items()), flush=True)
    return rows


def table(tables: dict[str, list[Row]]) -> str:
    """Returns the rows of all scenarios as one Markdown table, and the time of each scenario below it."""
    head = "| method |" + "".join(f" {s}: target train | {s}: source val | {s}: [s] |" for s in tables)
    lines = [head, "| --- |" + " --- | --- | --- |" * len(tables)]
    for position, row in enumerate(next(iter(tables.values()))):
        cells = "".join(
            " {target:.3f} ({low:.3f} to {high:.3f}) | {source:.3f} | {seconds:.1f} |".format(**rows[position])
            for rows in tables.values()
        )
        lines.append(f"| {row['method']} |{cells}")
    totals = ", ".join(f"{s} {sum(float(row['seconds']) for row in rows):.0f} s" for s, rows in tables.items())
    return "\n".join([*lines, "", f"All methods: {totals}.", ""])


def main() -> None:
    """Measures what the command line names and appends a section to the log."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods", description=__doc__)
    parser.add_argument("--params", type=Path, help="params.yaml that has the scenarios; default: each folder's own")
    parser.add_argument("--log", type=Path, help="Markdown file that the table is added to; default: print only")
    parser.add_argument("--write", type=Path, help="Markdown file whose section of this title is replaced")
    parser.add_argument("--title", default="Feature methods, frozen, default options", help="of the section")
    parser.add_argument("--only", nargs="*", help="methods; default: all that take features")
    parser.add_argument("folders", nargs="+", metavar="SCENARIO=FOLDER")
    given = parser.parse_args()
    methods = given.only or feature_methods()
    pairs = [pair.partition("=") for pair in given.folders]
    tables = {
        name: measure(given.params or Path(folder, "params.yaml"), name, Path(folder), methods)
        for name, _, folder in pairs
    }
    body = (
        "Balanced accuracy, mean over seeds (least to greatest), last epoch; target: its"
        f" training split. `python -m benchmarks.methods`.\n\n{table(tables)}"
    )
    print(body)
    if given.log:
        with given.log.open("a") as stream:
            stream.write(f"\n## {given.title}\n\n{body}")
    if given.write:
        write_section(given.write, f"{given.title}: benchmarks/methods.py", body)


if __name__ == "__main__":
    main()

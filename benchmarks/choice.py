"""Chooses from the pool as the stage `select` does, scores the choice by the target's TEST labels, and writes the
table.

`python -m benchmarks.choice --params params.yaml --pool out/pool --write docs/benchmarks.md steel=out/steel
steel_reverse=out/steel`, after `python -m benchmarks.pool` with the same pairs. The rule is the section `select` of
`params.yaml`; nothing here can change a choice by what the labels say. Accuracy: balanced, mean over seeds.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.pool import inputs_of, params_for, params_of
from isthmus.core.accuracy import balanced_accuracy
from isthmus.core.config import read_yaml
from isthmus.core.files import read_json
from isthmus.data.manifest import INDEX, TARGET_LABELS, read_table
from isthmus.data.shards import Rows
from isthmus.evaluation.scoring.truth import build_truth
from isthmus.evaluation.selection.candidates import Views, measure, views_of, with_half_step
from isthmus.evaluation.selection.choice import SOURCE_ONLY, Candidate, Choice, Leave, choose, half_step
from isthmus.evaluation.trained import Samples, Trained, open_trained, read_samples
from isthmus.stages import select

NEGATIVE = 0.01  # [share] below source-only that counts as below
RESAMPLES = 1000


def open_pool(folder: Path, only: list[str] | None, classes: list[str], count: int) -> dict[str, Trained]:
    """Opens the trained candidates, each under the name of its folder: `mmd` and `mmd.raw` are two."""
    names = sorted(path.parent.name for path in folder.glob("*/run.json"))
    runs = open_trained(folder, [n for n in names if only is None or n in only], classes, count)
    return {
        name: Trained(folder / name, run.facts.model_copy(update={"method": name}), count) for name, run in runs.items()
    }


def choice_of(
    params: Path, pair: str, inputs: Path, runs: dict[str, Trained], samples: Samples
) -> tuple[dict[str, Trained], Choice]:
    """Chooses as the stage does; returns also what was compared, the half step among it."""
    given = params_of(select.Params, params, scenario=pair)
    views, candidates, leave = measured(given, inputs, runs, samples)
    config, classes = given.select, len(given.scenario.classes)
    of = half_step(candidates, config, classes, config.prefer) if config.half_step else {}
    runs, candidates = with_half_step(runs, candidates, views, of)
    return runs, choose(candidates, config, classes, leave, config.prefer)


def measured(
    given: select.Params, inputs: Path, runs: dict[str, Trained], samples: Samples
) -> tuple[Views, list[Candidate], Leave | None]:
    """Returns rows, candidates that were trained, and the test before source-only is left, as the stage has them."""
    validators = {name: options.build() for name, options in given.select.validators.items()}
    features = Rows(inputs / "features", read_table(inputs / "prepared" / "index.parquet", INDEX))
    views = views_of(samples, given.scenario.source, given.scenario.target, features.take, given.select.max_images)
    candidates = measure(runs, views, validators, given.select)
    return views, candidates, select.leave_of(given.select, runs, views, samples)


def labelled(inputs: Path, samples: Samples, target: str, split: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the target's label of each image `[N]`, -1 where it is unknown, and the rows of a split that have one."""
    table = read_table(inputs / "labels_target.parquet", TARGET_LABELS).drop_duplicates("image_id", keep=False)
    labels = table.set_index("image_id")["label"].reindex(samples.image_id).fillna(-1).to_numpy(dtype=np.int64)
    rows = samples.rows([target], split)
    return labels, rows[labels[rows] >= 0]


def every_accuracy(
    runs: dict[str, Trained], labels: NDArray[np.int64], rows: NDArray[np.int64]
) -> dict[tuple[str, int], float]:
    """Returns (method, epoch) -> balanced accuracy on these rows, mean over seeds."""
    return {
        (m, e): float(np.mean([balanced_accuracy(row[rows], labels[rows]) for row in run.all_logits(e).argmax(2)]))
        for m, run in runs.items()
        for e in run.facts.epochs
    }


def judged(pair: str, inputs: Path, target: str, runs: dict[str, Trained], made: Choice, samples: Samples) -> Any:
    """Returns the body of `truth.json` over all methods, and the best (candidate, epoch) of the pool by truth."""
    labels, test = labelled(inputs, samples, target, "test")
    predicted = {m: run.all_logits(made.best_epoch[m]).argmax(axis=2)[:, test] for m, run in runs.items()}
    classes = next(iter(runs.values())).facts.classes
    body = build_truth(
        predicted, made.best_epoch, labels[test], samples.group[test], classes, made.method, RESAMPLES, 0
    )
    every = every_accuracy(runs, labels, test)
    best = max(sorted(every), key=lambda key: every[key])
    return body | {"pair": pair, "epoch": made.epoch, "best": best, "best_accuracy": every[best]}


def table(found: list[dict[str, Any]]) -> str:
    """Returns one row a pair, then what the acceptance asks for, then every method of every pair."""
    head = (
        "| pair | test images | source-only | chosen without labels | minus source-only | oracle | regret"
        " | best epoch by truth | regret to it |"
    )
    lines = [head, "| --- |" + " --- |" * 8]
    for one in found:
        methods, chosen = one["methods"], one["chosen"]
        oracle, strict = one["oracle"]["method"], 100 * (one["best_accuracy"] - mean(one, chosen))
        lines.append(
            f"| {one['pair']} | {one['count']} | {100 * mean(one, SOURCE_ONLY):.1f} | {chosen} @{one['epoch']}:"
            f" {100 * mean(one, chosen):.1f} | {interval(methods[chosen]['minus_source_only'])} | {oracle}:"
            f" {100 * mean(one, oracle):.1f} | {interval(one['regret'])} | {one['best'][0]} @{one['best'][1]}:"
            f" {100 * one['best_accuracy']:.1f} | {strict:.1f} |"
        )
    regrets = [100 * one["regret"]["mean"] for one in found]
    stricter = [100 * (one["best_accuracy"] - mean(one, one["chosen"])) for one in found]
    gains = {one["pair"]: one["methods"][one["chosen"]]["minus_source_only"] for one in found}
    below = [pair for pair, gain in gains.items() if gain["mean"] < -NEGATIVE]
    worse = [pair for pair, gain in gains.items() if gain["high"] < 0]
    names = sorted({m for one in found for m in one["methods"]})
    lines += [
        "",
        f"Mean regret {np.mean(regrets):.1f} points (to the best epoch of any candidate: {np.mean(stricter):.1f});"
        f" significantly below source-only: {', '.join(worse) or 'none'}; more than one point below:"
        f" {', '.join(below) or 'none'}, {len(below)} of {len(found)} pairs.",
        "",
        "Every method at the epoch that the rule takes for it:",
        "",
        "| method |" + "".join(f" {one['pair']} |" for one in found),
        "| --- |" + " --- |" * len(found),
        *(f"| {n} |" + "".join(f" {cell(one, n)} |" for one in found) for n in names),
    ]
    return "\n".join(lines)


def mean(one: dict[str, Any], method: str) -> float:
    """Returns a method's balanced accuracy."""
    return float(one["methods"][method]["balanced_accuracy"]["mean"])


def cell(one: dict[str, Any], method: str) -> str:
    """Returns a method's balanced accuracy [%], the chosen one's in bold."""
    if method not in one["methods"]:
        return ""
    value = f"{100 * mean(one, method):.1f}"
    return f"**{value}**" if method == one["chosen"] else value


def interval(value: dict[str, float]) -> str:
    """Returns a difference with its 95% interval [points]."""
    return f"{100 * value['mean']:+.1f} ({100 * value['low']:+.1f} to {100 * value['high']:+.1f})"


def write_section(path: Path, title: str, text: str) -> None:
    """Replaces the section of this title in a Markdown file, or adds it at the end."""
    start, end = f"<!-- {title}: benchmarks/choice.py -->", f"<!-- end of {title} -->"
    old = path.read_text(encoding="utf-8") if path.exists() else "# Benchmarks\n"
    section = f"{start}\n\n{text}\n\n{end}"
    if start in old:
        before, after = old.index(start), old.index(end) + len(end)
        path.write_text(old[:before] + section + old[after:], encoding="utf-8")
    else:
        path.write_text(f"{old.rstrip()}\n\n## {title}\n\n{section}\n", encoding="utf-8")


def main() -> None:
    """Chooses, judges, prints, writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choice", description=__doc__)
    parser.add_argument("--params", type=Path, required=True, help="params.yaml with the scenarios and `select`")
    parser.add_argument("--rule", type=Path, help="params.yaml whose `select` is used; default: --params")
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--only", nargs="+", help="candidates of the pool; default: all")
    parser.add_argument("--write", type=Path, help="Markdown file; default: print only")
    parser.add_argument("--title", default="The choice without target labels", help="of the section that is written")
    parser.add_argument("pairs", nargs="+", metavar="PAIR=FOLDER")
    given = parser.parse_args()
    found = []
    for pair, _, folder in (text.partition("=") for text in given.pairs):
        seed = read_yaml(given.params)["seed"]
        inputs = inputs_of(pair, Path(folder), given.pool / pair, seed)
        own = params_for(given.params, pair, given.pool / pair, [SOURCE_ONLY], given.rule)
        samples = read_samples(inputs / "manifest.parquet", inputs / "prepared")
        facts = read_json(given.pool / pair / "train" / SOURCE_ONLY / "run.json")
        runs = open_pool(given.pool / pair / "train", given.only, facts["classes"], len(samples.label))
        runs, made = choice_of(own, pair, inputs, runs, samples)
        found.append(judged(pair, inputs, facts["domains"][-1], runs, made, samples))
        print(f"{pair}: {made.why}", flush=True)
    text = table(found)
    print(text)
    if given.write:
        write_section(given.write, given.title, text)


if __name__ == "__main__":
    main()

"""Whether the shipped answer survives other features and budgets: pooling, image size, network, steps of training.

`python -m benchmarks.variants --mirror MIRROR --out out/variants --sets steel,blood shipped pool=both image_size=224
min_steps=100 pool=both+min_steps=2000 [--write .]` runs `benchmarks.choice` with each variant's settings of the model
`vit`; `shipped` are those of params.yaml, and the first variant is what the others are compared with. Balanced accuracy
is on the target's TRAINING labels: defaults are settled here, and test labels settle nothing. With `--curve` all
shipped methods are trained, and the table has a row for each method and family and a column for each variant, such as
`epochs=1+min_steps=60`.
"""

import argparse
import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.choice import SETS, measured
from benchmarks.real_pairs import pairs
from benchmarks.sections import table, write_section
from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.models.backbones import timm

METHODS = (SOURCE_ONLY, "zscore", "mcc")
ALL = (*METHODS, "dann", "mmd", "coral", "shot")  # of the shipped methods those that train on images with one label
SHIPPED = "shipped"


def params_of_variant(params: Path, variant: str, into: Path) -> Path:
    """Writes settings with those of a variant, such as `pool=both+min_steps=1000`; returns their path."""
    document = yaml.safe_load(params.read_text())
    model = document["models"]["vit"]
    for given in variant.split("+") if variant != SHIPPED else []:
        key, _, value = given.partition("=")
        section = model["backbone"] if key in timm.Config.model_fields else model
        section[key] = yaml.safe_load(value)
    into.mkdir(parents=True, exist_ok=True)
    (into / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return into / "params.yaml"


def results(
    variant: str, mirror: Path, out: Path, params: Path, sets: list[str], methods: tuple[str, ...] = METHODS
) -> dict[str, dict[str, Any]]:
    """Returns pair -> what `benchmarks.choice` measured; what is there already is not done again."""
    own, found = params_of_variant(params, variant, out / variant), {}
    (out / "cache").mkdir(exist_ok=True)
    if not (out / variant / "cache").exists():
        (out / variant / "cache").symlink_to(Path("..") / "cache")  # features are the same where the network is
    for pair in pairs(mirror, out / variant, own, sets):
        with Path(os.devnull).open("w", encoding="utf-8") as silent, contextlib.redirect_stdout(silent):
            found[pair.name] = measured(pair, methods)
        print(f"{variant}, {pair.name}: chosen {_train(found[pair.name], 'chosen'):.1f}", flush=True)
    return found


def summary(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Returns a row a variant as Markdown; means are over families of pairs, each the mean of its pairs."""
    first = next(iter(found.values()))
    family = [result["family"] for result in first.values()]
    rows = []
    for variant, by_pair in found.items():
        score = {
            answer: np.array([_train(result, answer) for result in by_pair.values()]) for answer in (*METHODS, "chosen")
        }
        gain = score["chosen"] - np.array([_train(result, "chosen") for result in first.values()])
        over = score["chosen"] - score[SOURCE_ONLY]
        regret = np.maximum(0, np.max([score[method] for method in METHODS], axis=0) - score["chosen"])
        shown = ", ".join(f"{f} {mean:+.1f}" for f, mean in _by_family(gain, family).items())
        means = (_mean(score[answer], family) for answer in (*METHODS, "chosen"))
        rows.append(
            (variant, *(f"{m:.1f}" for m in means), shown, f"{_mean(regret, family):.1f}", f"{over.min():+.1f}")
        )
    names = ("gain of the choice over the first", "regret to the best method", "lowest against source_only")
    return f"{len(family)} pairs.\n\n" + table(("variant", *METHODS, "chosen", *names), *rows)


def curve(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Returns a row for each method and family as Markdown, and a column for each variant; blank: not trained there."""
    pairs_of = next(iter(found.values()))
    family = [result["family"] for result in pairs_of.values()]
    rows: list[tuple[str, ...]] = []
    for answer in (*ALL, "chosen"):
        columns = []
        for by_pair in found.values():
            trained = all(answer in result["accuracy"] for result in by_pair.values())
            scores = np.array([_train(result, answer) if trained else np.nan for result in by_pair.values()])
            columns.append(_by_family(scores, family) | {"mean": _mean(scores, family)})
        for name in columns[0]:
            shown = ("" if np.isnan(column[name]) else f"{column[name]:.1f}" for column in columns)
            rows.append((answer, name, *shown))
    return f"{len(family)} pairs.\n\n" + table(("answer", "family", *found), *rows)


def _by_family(values: np.ndarray, family: list[str]) -> dict[str, float]:
    return {f: float(values[np.array(family) == f].mean()) for f in dict.fromkeys(family)}


def _mean(values: np.ndarray, family: list[str]) -> float:
    return float(np.mean([*_by_family(values, family).values()]))


def _train(result: dict[str, Any], answer: str) -> float:
    return float(result["accuracy"][answer]["train"])


def main() -> None:
    """Runs the variants that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.variants", description=__doc__)
    parser.add_argument("--mirror", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--out", type=Path, required=True, help="working folder; what is there is not done again")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--sets", default=",".join(SETS), help="data sets, with commas")
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/benchmarks.md gets the table")
    parser.add_argument("--curve", action="store_true", help="all shipped methods, a column for each variant")
    parser.add_argument("variants", nargs="+", metavar="VARIANT", help="shipped, or settings: pool=both+min_steps=1000")
    given = parser.parse_args()
    mirror, out, sets = given.mirror.resolve(), given.out.resolve(), given.sets.split(",")
    methods, shown, section = (ALL, curve, "budget") if given.curve else (METHODS, summary, "variants")
    text = shown({v: results(v, mirror, out, given.params.resolve(), sets, methods) for v in given.variants})
    print(f"\n{text}")
    if given.write:
        write_section(given.write / "docs" / "benchmarks.md", section, text)


if __name__ == "__main__":
    main()

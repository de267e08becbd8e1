"""Compares features of the frozen network, pooling by image size, by what the shipped answer gets from them.

`python -m benchmarks.features --mirror MIRROR --out out/features class154 both154 mean154 class224 [--write .]` runs
`benchmarks.choice` with each variant's settings; the first variant is the one that ships. Balanced accuracy is on the
target's TRAINING labels: a default is settled here, and test labels settle nothing.
"""

import argparse
import contextlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.choice import SETS, measured, table
from benchmarks.real_pairs import pairs
from benchmarks.sections import write_section

SHOWN = ("source_only", "zscore", "mcc", "chosen")


def params_of_variant(params: Path, variant: str, into: Path) -> Path:
    """Writes settings with a variant's pooling and image size, such as `both154`; returns their path."""
    pool, size = re.fullmatch(r"(class|mean|both)(\d+)", variant).groups()  # type: ignore[union-attr]
    document = yaml.safe_load(params.read_text())
    document["models"]["vit"]["backbone"] |= {"pool": pool, "image_size": int(size)}
    into.mkdir(parents=True, exist_ok=True)
    (into / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return into / "params.yaml"


def results(variant: str, mirror: Path, out: Path, params: Path, sets: list[str]) -> dict[str, dict[str, Any]]:
    """Returns pair -> what `benchmarks.choice` measured; what is there already is not done again."""
    found = {}
    for pair in pairs(mirror, out / variant, params_of_variant(params, variant, out / variant), sets):
        with Path(os.devnull).open("w", encoding="utf-8") as silent, contextlib.redirect_stdout(silent):
            found[pair.name] = measured(pair)
    return found


def summary(found: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Returns the gain of each variant over the first, by answer, as Markdown."""
    first, *others = found
    rows = []
    for variant in others:
        names = [name for name in found[first] if name in found[variant]]
        family = np.array([found[first][name]["family"] for name in names])
        for answer in SHOWN:
            gain = np.array([_train(found[variant][n], answer) - _train(found[first][n], answer) for n in names])
            by = {f: float(gain[family == f].mean()) for f in dict.fromkeys(family)}
            shown = ", ".join(f"{f} {mean:+.1f}" for f, mean in by.items())
            cells = (gain.mean(), np.mean([*by.values()]), gain.min(), gain.max())
            rows.append((variant, answer, len(names), *(f"{cell:+.1f}" for cell in cells), shown))
    head = ("features", "answer", "pairs", "gain", "gain, mean of families", "least", "greatest", "by family")
    return table(head, *rows)


def _train(result: dict[str, Any], answer: str) -> float:
    return float(result["accuracy"][answer]["train"])


def main() -> None:
    """Runs the variants that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.features", description=__doc__)
    parser.add_argument("--mirror", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--out", type=Path, required=True, help="working folder; what is there is not done again")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--sets", default=",".join(SETS), help="data sets, with commas")
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/benchmarks.md gets the table")
    parser.add_argument("variants", nargs="+", metavar="VARIANT", help="pooling and image size, such as both154")
    given = parser.parse_args()
    mirror, out, sets = given.mirror.resolve(), given.out.resolve(), given.sets.split(",")
    text = summary({v: results(v, mirror, out, given.params.resolve(), sets) for v in given.variants})
    print(text)
    if given.write:
        write_section(given.write / "docs" / "benchmarks.md", "features", text)


if __name__ == "__main__":
    main()

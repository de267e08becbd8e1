"""Holds estimated target accuracy and conformal coverage against the truth, and writes docs/benchmarks.md.

python -m benchmarks.estimates blood scenes mnist_usps usps_mnist steel      (each with out/NAME as `evaluate` left it)

The limits of the estimate were settled on development pairs (docs/decisions/0010-estimated-accuracy.md); nothing here
feeds back into them. Coverage on the source is also given as the mean over draws of the same images into `cal` and
`test` by group: what the method promises, where a single draw of few images may be far from it.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.core.files import read_json, write_text
from isthmus.evaluation import conformal, metrics
from isthmus.evaluation.calibration import fit_temperature
from isthmus.evaluation.estimate import EstimateLimits, Views, estimate_accuracy
from isthmus.evaluation.trained import Samples, Trained, open_trained, read_samples
from isthmus.evaluation.trust import passed_others
from isthmus.evaluation.validators import softmax

ROOT = Path(__file__).parents[1]
START, END = "<!-- estimates: benchmarks/estimates.py -->", "<!-- end of estimates -->"
DRAWS = 100
DEVELOPMENT = ("industrial", "steel", "medical", "remote_sensing")
Row = dict[str, Any]


def main(names: list[str], out: Path = ROOT / "out", page: Path = ROOT / "docs" / "benchmarks.md") -> None:
    """Measures the named scenarios and replaces what stands between the two marks."""
    rows = [row for name in names for row in measure(name, out / name)]
    text = page.read_text(encoding="utf-8") if page.exists() else f"# Benchmarks\n\n{START}\n{END}\n"
    if START not in text:
        text = f"{text.rstrip()}\n\n{START}\n{END}\n"
    before, after = text.index(START), text.index(END) + len(END)
    write_text(page, text[:before] + "\n".join([START, "", *section(rows), "", END]) + text[after:])
    print("\n".join(section(rows)))


def measure(name: str, folder: Path) -> list[Row]:
    """Returns a row for each method at its epoch, on the target's test split."""
    made, truth, trust = (read_json(folder / f"{file}.json") for file in ("choice", "truth", "trust"))
    samples = read_samples(folder / "manifest.parquet", folder / "prepared")
    runs = open_trained(folder / "train", made["best_epoch"], truth["classes"], len(samples.label))
    target = read_json(folder / "prepared" / "facts.json")["domains"][-1]
    return [
        {
            "pair": name,
            "method": method,
            "chosen": method == truth["chosen"],
            "truth": truth["methods"][method]["accuracy"]["mean"],
            **estimated(runs, method, made, samples, target),
            "covered": trust["conformal"]["source_test"]["coverage"]["mean"],
            "promised": trust["conformal"]["coverage"],
            "covered_target": truth["trust"]["conformal"]["coverage"]["mean"],
            "redrawn": redrawn(
                runs[method], made["best_epoch"][method], samples, target, trust["conformal"]["coverage"]
            )
            if method == truth["chosen"]
            else None,
        }
        for method in truth["methods"]
    ]


def estimated(runs: dict[str, Trained], method: str, made: dict[str, Any], samples: Samples, target: str) -> Row:
    """Returns what is told of one method as if it had been chosen."""
    source = (samples.domain != target) & np.isin(samples.split, ["val", "cal"])
    test = samples.rows([target], "test")
    logits = runs[method].all_logits(made["best_epoch"][method])
    others = passed_others(made | {"chosen": {"method": method}}, runs)
    views = Views(
        logits[:, source],
        samples.label[source],
        logits[:, test],
        {name: rows[:, test] for name, rows in others.items()},
    )
    found = estimate_accuracy(views, metrics.group_weights(samples.group[test], 1000, 0), EstimateLimits())
    return {"told": found["accuracy"], "low": found["low"], "high": found["high"], "parts": found["parts"]}


def redrawn(run: Trained, epoch: int, samples: Samples, target: str, coverage: float) -> float:
    """Returns the mean coverage on the source's test images over draws of `cal` and `test` by group, first seed."""
    logits = run.logits(run.facts.seeds[0], epoch)
    pool = np.flatnonzero((samples.domain != target) & np.isin(samples.split, ["cal", "test"]))
    groups, codes = np.unique(samples.group[pool], return_inverse=True)
    share = (samples.split[pool] == "cal").mean()
    found = []
    for draw in range(DRAWS):
        inside = np.random.default_rng(draw).random(len(groups)) < share
        cal, test = pool[inside[codes]], pool[~inside[codes]]
        if not len(cal) or not len(test):
            continue
        temperature = fit_temperature(logits[cal], samples.label[cal])
        scores = [conformal.scores(softmax(logits[rows] / temperature), "lac", draw) for rows in (cal, test)]
        sets = conformal.prediction_sets(scores[0], samples.label[cal], scores[1], coverage)
        found.append(conformal.covered(sets, samples.label[test]).mean())
    return float(np.mean(found))


def section(rows: list[Row]) -> list[str]:
    """Returns the lines of the section."""
    chosen = [row for row in rows if row["chosen"]]
    lines = [
        "## Target accuracy estimated without labels, and coverage of conformal sets",
        "",
        "`python -m benchmarks.estimates "
        + " ".join(row["pair"] for row in chosen)
        + "`. Accuracy on the target's test split"
        " [%], mean over seeds, of the model chosen without labels.",
        "",
        "| pair | chosen | estimated (interval) | true | error | inside | source | redrawn | target |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *[line(row) for row in chosen],
        "",
        *[f"- {name}: {summary(some)}" for name, some in groups_of(rows)],
        "",
        "Last three columns: coverage of conformal sets on source test and target test; promised: "
        + ", ".join(sorted({f"{100 * row['promised']:.0f}%" for row in chosen}))
        + ". Redrawn: mean over"
        f" {DRAWS} draws of the same source images into `cal` and `test`. Pairs marked * were used to",
        "develop the limits.",
    ]
    return lines


def groups_of(rows: list[Row]) -> list[tuple[str, list[Row]]]:
    """Returns the rows that are summed up: the chosen ones, and every method on pairs that nothing was developed on."""
    new = [row for row in rows if row["pair"] not in DEVELOPMENT]
    named = [("chosen models", [row for row in rows if row["chosen"]])]
    named.append(("chosen models, pairs that nothing was developed on", [row for row in new if row["chosen"]]))
    named.append(("every method, pairs that nothing was developed on", new))
    return [(name, some) for name, some in named if some]


def line(row: Row) -> str:
    """Returns one line of the table [%]."""
    pair = row["pair"] + ("*" if row["pair"] in DEVELOPMENT else "")
    if row["told"] is None:
        told, error, inside = "cannot tell", "", ""
    else:
        told = f"{percent(row['told'])} ({percent(row['low'])} to {percent(row['high'])})"
        error, inside = f"{100 * (row['told'] - row['truth']):+.1f}", "yes" if held(row) else "no"
    cells = [pair, row["method"], told, percent(row["truth"]), error, inside]
    return f"| {' | '.join([*cells, *(percent(row[key]) for key in ('covered', 'redrawn', 'covered_target'))])} |"


def summary(rows: list[Row]) -> str:
    """Returns the figures that the estimate is judged by."""
    told = [row for row in rows if row["told"] is not None]
    silent = f"{len(rows) - len(told)} of {len(rows)} cannot be told"
    if not told:
        return silent
    error = np.mean([abs(row["told"] - row["truth"]) for row in told])
    width = np.median([row["high"] - row["low"] for row in told])
    inside = sum(held(row) for row in told)
    return (
        f"mean absolute error {100 * error:.1f} points, truth inside {inside} of {len(told)}, median width"
        f" {100 * width:.1f} points, {silent}"
    )


def held(row: Row) -> bool:
    """Says whether the interval holds the truth."""
    return bool(row["low"] <= row["truth"] <= row["high"])


def percent(value: float) -> str:
    """Returns a share [%]."""
    return f"{100 * value:.1f}"


if __name__ == "__main__":
    main(sys.argv[1:])

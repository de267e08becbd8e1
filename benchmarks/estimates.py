"""Holds estimated target accuracy and conformal coverage against the truth, and writes docs/benchmarks.md.

`python -m benchmarks.estimates --params params.yaml --pool out/pool --write docs/benchmarks.md blood=out/blood
blood_reverse=out/blood`, after `python -m benchmarks.pool` with the same pairs and the methods of `params.yaml`. Stages
`shift`, `select` and `evaluate` run as in the graph, below POOL/PAIR/judged, and again each time.

The estimate was settled on development pairs and on training labels of real targets
(docs/decisions/0010-estimated-accuracy.md); with `--lines` each pair is told by a line that has seen no label of its
scenario. Nothing here feeds back. Coverage on the source is also given as the mean over draws of the same images into
`cal` and `test` by group: what the method promises, where a single draw of few images may be far from it.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.estimate_fit import scenario_of
from benchmarks.pool import inputs_of, params_for, params_of
from benchmarks.sections import write_section
from isthmus.core.config import read_yaml
from isthmus.core.files import read_json
from isthmus.evaluation import metrics
from isthmus.evaluation.calibration import fit_temperature
from isthmus.evaluation.confidence import conformal
from isthmus.evaluation.confidence.estimate import SHIPPED, EstimateLimits, Line, Views, estimate_accuracy
from isthmus.evaluation.confidence.trust import passed_others
from isthmus.evaluation.metrics import Predictions
from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.evaluation.selection.half_step import open_compared
from isthmus.evaluation.selection.second_view import read_second_view, second_opinion
from isthmus.evaluation.trained import Samples, Trained, read_samples
from isthmus.evaluation.validators import softmax
from isthmus.stages import evaluate, select, shift

SECTION = "estimates: benchmarks/estimates.py"
DRAWS = 100
Row = dict[str, Any]


def main(arguments: list[str] | None = None) -> None:
    """Judges the pairs that the command line names; replaces what stands between the two marks of a page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimates", description=__doc__)
    parser.add_argument("--params", type=Path, required=True, help="params.yaml with the scenarios and the methods")
    parser.add_argument("--rule", type=Path, help="params.yaml whose `select` is used; default: --params")
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--write", type=Path, help="Markdown file; default: print only")
    parser.add_argument("--lines", type=Path, help="lines without each scenario, from benchmarks.estimate_fit --write")
    parser.add_argument("pairs", nargs="+", metavar="PAIR=FOLDER")
    given = parser.parse_args(arguments)
    kept = read_json(given.lines) if given.lines else {}
    lines = {name: Line(**line) for name, line in kept.items()}
    rows = []
    for pair, _, folder in (text.partition("=") for text in given.pairs):
        inputs = inputs_of(pair, Path(folder), given.pool / pair, read_yaml(given.params)["seed"])
        judge(given.params, pair, inputs, given.pool / pair, given.rule)
        rows += measure(pair, inputs, given.pool / pair, lines.get(scenario_of(pair), SHIPPED))
    text = "\n".join(section(rows, bool(lines)))
    print(text)
    if given.write:
        write_section(given.write, SECTION, text)


def judge(params: Path, pair: str, inputs: Path, work: Path, rule: Path | None) -> None:
    """Runs the stages `shift`, `select` and `evaluate` on what was trained, into `work/judged`."""
    own = params_for(params, pair, work, list(read_yaml(params)["methods"]), rule)
    folder, trained = work / "judged", work / "train"
    folder.mkdir(exist_ok=True)
    tables = {"manifest": inputs / "manifest.parquet", "prepared": inputs / "prepared"}
    seen = tables | {"features": inputs / "features"}
    shift.run(params_of(shift.Params, own, scenario=pair), **seen, shift=folder / "shift")
    made = {"trained": trained, "choice": folder / "choice.json"}
    select.run(params_of(select.Params, own, scenario=pair), **seen, **made)
    written = {name: folder / f"{name}.json" for name in ("truth", "trust", "metrics")}
    labels, predictions = inputs / "labels_target.parquet", folder / "predictions.parquet"
    given = params_of(evaluate.Params, own, scenario=pair)
    made |= {"shift": folder / "shift"}
    evaluate.run(given, **seen, **made, labels_target=labels, predictions=predictions, **written)


def measure(name: str, inputs: Path, work: Path, line: Line = SHIPPED) -> list[Row]:
    """Returns a row for each method at its epoch, on the target's test split."""
    made, truth, trust = (read_json(work / "judged" / f"{file}.json") for file in ("choice", "truth", "trust"))
    samples = read_samples(inputs / "manifest.parquet", inputs / "prepared")
    runs = open_compared(work / "train", made, truth["classes"], len(samples.label))
    *sources, target = read_json(work / "train" / SOURCE_ONLY / "run.json")["domains"]
    view = read_second_view(inputs / "features", inputs / "prepared")
    second = second_opinion(view, samples, sources, target, samples.rows([target], "test"))
    return [
        {
            "pair": name,
            "method": method,
            "chosen": method == truth["chosen"],
            "truth": truth["methods"][method]["accuracy"]["mean"],
            **estimated(runs, method, made, samples, target, second, line),
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


def estimated(
    runs: dict[str, Trained],
    method: str,
    made: dict[str, Any],
    samples: Samples,
    target: str,
    second: Predictions,
    line: Line,
) -> Row:
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
        second,
    )
    found = estimate_accuracy(views, metrics.group_weights(samples.group[test], 1000, 0), EstimateLimits(), line)
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


def section(rows: list[Row], held_out: bool) -> list[str]:
    """Returns the lines of the section; `held_out`: whether lines without each scenario were given."""
    how = "a line that was fitted without its scenario" if held_out else "the shipped line"
    chosen = [row for row in rows if row["chosen"]]
    lines = [
        "## Target accuracy estimated without labels, and coverage of conformal sets",
        "",
        "`python -m benchmarks.estimates`. Accuracy on the target's test split [%], mean over seeds, of the model"
        " chosen without labels.",
        "",
        "| pair | chosen | estimated (interval) | true | error | inside | source | redrawn | target |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *[line(row) for row in chosen],
        "",
        f"- chosen models: {summary(chosen)}",
        f"- every method: {summary(rows)}",
        "",
        "Last three columns: coverage of conformal sets on source test and target test; promised: "
        + ", ".join(sorted({f"{100 * row['promised']:.0f}%" for row in chosen}))
        + ". Redrawn: mean over"
        f" {DRAWS} draws of the same source images into `cal` and `test`.",
        f"Each pair is told by {how}.",
    ]
    return lines


def line(row: Row) -> str:
    """Returns one line of the table [%]."""
    if row["told"] is None:
        told, error, inside = "cannot tell", "", ""
    else:
        told = f"{percent(row['told'])} ({percent(row['low'])} to {percent(row['high'])})"
        error, inside = f"{100 * (row['told'] - row['truth']):+.1f}", "yes" if held(row) else "no"
    cells = [row["pair"], row["method"], told, percent(row["truth"]), error, inside]
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
    main()

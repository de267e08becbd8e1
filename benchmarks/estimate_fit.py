"""Fits the line by which two label-free estimators tell the accuracy on the target, on development pairs only.

`python -m benchmarks.estimate_fit --params out/pseudo/params.yaml --pool out/pool steel_tone=out/pseudo/steel_tone`,
after `benchmarks.pool` with the same pairs: every method at the epoch that the rule takes, labels of the target's
TRAINING split. Pairs after `--real` have a real target; together they weigh as much as all others, for corrupted halves
do not stand for real targets (docs/log.md). Prints the coefficients that stand in `evaluation/confidence/estimate.py`,
and what they are worth on scenarios that they were not fitted on: a pair belongs to the scenario that its images come
from, and all pairs of one are left out together. `--write` keeps the lines without each scenario, which
`benchmarks.estimates` takes, so that no pair is told by a line that has seen one of its labels.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge

from benchmarks.choice import choice_of, labelled, open_pool
from benchmarks.pool import inputs_of, params_for, params_of
from isthmus.core.config import read_yaml
from isthmus.core.files import read_json, write_json
from isthmus.evaluation.confidence.estimate import SHIPPED, Line, Reals, Views, estimators, log_odds
from isthmus.evaluation.confidence.trust import asked_others
from isthmus.evaluation.selection.choice import SOURCE_ONLY
from isthmus.evaluation.selection.second_view import read_second_view, second_opinion
from isthmus.evaluation.trained import read_samples
from isthmus.stages import select

ENDINGS = ("_optics", "_tone", "_resolution", "_uneven", "_reverse")
DIGITS = ("mnist_usps", "usps_mnist")  # two directions of one scenario; `digits` has its MNIST too
FITTED = list(SHIPPED.weights)
PENALTY = 1.0
# Quantile of the errors in each scenario, in the mean of scenarios: the least of .80, .85 and .90 with which 80% of all
# models on real pairs lie inside, their scenario left out (docs/decisions/0010-estimated-accuracy.md).
COVERED = 0.85


def rows_of(params: Path, rule: Path | None, pair: str, folder: Path, pool: Path) -> list[dict[str, object]]:
    """Returns one row a method: what the estimators say of it on the target's training split, and its accuracy."""
    inputs = inputs_of(pair, folder, pool / pair, read_yaml(params)["seed"])
    own = params_for(params, pair, pool / pair, [SOURCE_ONLY], rule)
    samples = read_samples(inputs / "manifest.parquet", inputs / "prepared")
    facts = read_json(pool / pair / "train" / SOURCE_ONLY / "run.json")
    shipped = list(read_yaml(rule or params)["methods"])
    runs = open_pool(pool / pair / "train", shipped, facts["classes"], len(samples.label))
    runs, made = choice_of(own, pair, inputs, runs, samples)
    *sources, name = facts["domains"]
    labels, target = labelled(inputs, samples, name, "train")
    view = read_second_view(inputs / "features", inputs / "prepared")
    second = second_opinion(view, samples, sources, name, target)
    source = samples.rows(sources, "val")
    passed = {m for m, e in made.best_epoch.items() if not _out(made.candidates, m, e)}
    prefer = params_of(select.Params, own, scenario=pair).select.prefer
    logits = {m: runs[m].all_logits(made.best_epoch[m]) for m in sorted(passed)}
    found = []
    for method, rows in logits.items():
        asked = asked_others(passed, method, prefer)
        others = {m: logits[m][:, target].argmax(2) for m in asked}
        if not others:
            continue  # nothing is told either, where no other method passed
        parts = estimators(Views(rows[:, source], samples.label[source], rows[:, target], others, second), FITTED)
        accuracy = float((rows[:, target].argmax(2) == labels[target]).mean())
        told = {name: float(values.mean()) for name, values in parts.items()}
        found.append({"pair": pair, "method": method, "chosen": method == made.method, "accuracy": accuracy, **told})
    return found


def _out(candidates: list[dict[str, object]], method: str, epoch: int) -> bool:
    return any(c["out"] for c in candidates if (c["method"], c["epoch"]) == (method, epoch))


def scenario_of(pair: str) -> str:
    """Returns the scenario whose images a pair is made of.

    >>> scenario_of("remote_sensing_tone_uneven")
    'remote_sensing'
    """
    while cut := next((e for e in ENDINGS if pair.endswith(e)), ""):
        pair = pair.removesuffix(cut)
    return "digits" if pair in DIGITS else pair


def fit(rows: pd.DataFrame) -> Ridge:
    """Returns the line in log-odds; every pair counts alike, and all real ones together as much as all others."""
    share = rows.groupby("real")["pair"].transform("nunique") * rows["real"].nunique()
    weight = rows["pair"].nunique() / share / rows.groupby("pair")["pair"].transform("size")
    seen, wanted = log_odds(rows[FITTED].to_numpy()), log_odds(rows["accuracy"].to_numpy())
    return Ridge(alpha=PENALTY).fit(seen, wanted, sample_weight=weight)


def held_out(rows: pd.DataFrame) -> Reals:
    """Returns the line's log-odds of each row, fitted without the row's scenario."""
    told = np.empty(len(rows))
    scenario = rows["pair"].map(scenario_of).to_numpy()
    for name in np.unique(scenario):
        here = scenario == name
        told[here] = fit(rows[~here]).predict(log_odds(rows.loc[here, FITTED].to_numpy()))
    return told


def judged(rows: pd.DataFrame) -> pd.Series:
    """Returns which rows the reach is taken from, bool: all models of real pairs; where there are none, chosen ones."""
    return rows["real"] if rows["real"].any() else rows["chosen"]


def line_of(rows: pd.DataFrame) -> Line:
    """Returns the line through these rows, and the reach that its like had on scenarios left out of them."""
    line = fit(rows)
    miss = pd.Series(np.abs(held_out(rows) - log_odds(rows["accuracy"].to_numpy())), rows.index)[judged(rows)]
    reach = float(miss.groupby(rows["pair"].map(scenario_of)).quantile(COVERED).mean())
    weights = {name: round(float(value), 2) for name, value in zip(FITTED, line.coef_, strict=True)}
    return Line(weights, round(float(line.intercept_), 2), round(reach, 2))


def report(rows: pd.DataFrame) -> str:
    """Returns the coefficients and what they are worth."""
    line, told = line_of(rows), held_out(rows)
    miss = np.abs(told - log_odds(rows["accuracy"].to_numpy()))
    error = np.abs(1 / (1 + np.exp(-told)) - rows["accuracy"].to_numpy())
    chosen = rows["chosen"].to_numpy()
    reach = line.reach
    wide = 1 / (1 + np.exp(-(told + reach))) - 1 / (1 + np.exp(-(told - reach)))
    groups = {"all": chosen, "real": chosen & rows["real"], "others": chosen & ~rows["real"]}
    worth = [
        f"chosen models of {name} pairs ({some.sum()}): mean absolute error {100 * error[some].mean():.1f} points,"
        f" median width {100 * np.median(wide[some]):.1f}, inside {100 * (miss[some] <= reach).mean():.0f}%"
        for name, some in groups.items()
        if some.any()
    ]
    head = f"{rows['pair'].nunique()} pairs, {len(rows)} models: {line}; scenario left out:"
    return "\n".join([head, *worth, f"least agreement of methods {rows['methods'].min():.2f}"])


def lines_without(rows: pd.DataFrame) -> dict[str, Line]:
    """Returns scenario -> the line that was fitted without its pairs."""
    scenario = rows["pair"].map(scenario_of)
    return {name: line_of(rows[scenario != name]) for name in sorted(set(scenario))}


def main() -> None:
    """Fits and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimate_fit", description=__doc__)
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument(
        "--rule", type=Path, help="params.yaml whose `select` and `methods` are used; default: --params"
    )
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--write", type=Path, help="JSON file for the lines without each scenario")
    parser.add_argument("--real", nargs="+", default=[], metavar="PAIR=FOLDER", help="pairs with a real target")
    parser.add_argument("pairs", nargs="*", metavar="PAIR=FOLDER")
    given = parser.parse_args()
    rows = pd.DataFrame(
        row | {"real": real}
        for real, pairs in ((False, given.pairs), (True, given.real))
        for pair, _, folder in (text.partition("=") for text in pairs)
        for row in rows_of(given.params, given.rule, pair, Path(folder), given.pool)
    )
    print(report(rows))
    if given.write:
        write_json(given.write, {name: asdict(line) for name, line in lines_without(rows).items()})


if __name__ == "__main__":
    main()

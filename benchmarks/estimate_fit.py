"""Fits the line by which two label-free estimators tell the accuracy on the target, on development pairs only.

`python -m benchmarks.estimate_fit --params out/pseudo/params.yaml --pool out/pool steel_tone=out/pseudo/steel_tone`,
after `benchmarks.pool` with the same pairs: every method at the epoch that the rule takes, labels of the target's
TRAINING split. Prints the coefficients that stand in `evaluation/estimate.py`, and what they are worth on scenarios
that they were not fitted on: a pair belongs to the scenario that its images come from, and all pairs of one are left
out together."""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge

from benchmarks.choice import choice_of, open_pool
from benchmarks.pool import inputs_of, params_for
from isthmus.core.config import read_yaml
from isthmus.core.files import read_json
from isthmus.data.manifest import TARGET_LABELS, read_table
from isthmus.evaluation.choice import SOURCE_ONLY
from isthmus.evaluation.estimate import FITTED, Reals, Views, estimators, log_odds
from isthmus.evaluation.trained import read_samples

ENDINGS = ("_optics", "_tone", "_resolution", "_uneven", "_reverse")
PENALTY, COVERED = 1.0, 0.8
METHODS = [SOURCE_ONLY, "zscore", "dann", "mmd", "coral"]


def rows_of(params: Path, rule: Path | None, pair: str, folder: Path, pool: Path) -> list[dict[str, object]]:
    """Returns one row a method: what the estimators say of it on the target's training split, and its accuracy."""
    inputs = inputs_of(pair, folder, pool / pair, read_yaml(params)["seed"])
    own = params_for(params, pair, pool / pair, [SOURCE_ONLY], rule)
    samples = read_samples(inputs / "manifest.parquet", inputs / "prepared")
    facts = read_json(pool / pair / "train" / SOURCE_ONLY / "run.json")
    runs = open_pool(pool / pair / "train", METHODS, facts["classes"], len(samples.label))
    made = choice_of(own, pair, inputs, runs, samples)
    table = read_table(inputs / "labels_target.parquet", TARGET_LABELS).drop_duplicates("image_id", keep=False)
    labels = table.set_index("image_id")["label"].reindex(samples.image_id).fillna(-1).to_numpy(dtype=np.int64)
    target = samples.rows([facts["domains"][-1]], "train")
    target = target[labels[target] >= 0]
    source = samples.rows(facts["domains"][:-1], "val")
    passed = {m for m, e in made.best_epoch.items() if not _out(made.candidates, m, e)}
    logits = {m: runs[m].all_logits(made.best_epoch[m]) for m in sorted(passed)}
    found = []
    for method, rows in logits.items():
        others = {m: z[:, target].argmax(2) for m, z in logits.items() if m not in (method, SOURCE_ONLY)}
        parts = estimators(Views(rows[:, source], samples.label[source], rows[:, target], others), FITTED)
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
    return pair


def fit(rows: pd.DataFrame) -> Ridge:
    """Returns the line in log-odds; every pair counts alike."""
    weight = 1 / rows.groupby("pair")["pair"].transform("size")
    seen, wanted = log_odds(rows[list(FITTED)].to_numpy()), log_odds(rows["accuracy"].to_numpy())
    return Ridge(alpha=PENALTY).fit(seen, wanted, sample_weight=weight)


def held_out(rows: pd.DataFrame) -> Reals:
    """Returns the line's log-odds of each row, fitted without the row's scenario."""
    told = np.empty(len(rows))
    scenario = rows["pair"].map(scenario_of).to_numpy()
    for name in np.unique(scenario):
        here = scenario == name
        told[here] = fit(rows[~here]).predict(log_odds(rows.loc[here, list(FITTED)].to_numpy()))
    return told


def report(rows: pd.DataFrame) -> str:
    """Returns the coefficients and what they are worth."""
    line, told = fit(rows), held_out(rows)
    miss = np.abs(told - log_odds(rows["accuracy"].to_numpy()))
    error = np.abs(1 / (1 + np.exp(-told)) - rows["accuracy"].to_numpy())
    chosen = rows["chosen"].to_numpy()
    reach = float(np.quantile(miss[chosen], COVERED))
    wide = 1 / (1 + np.exp(-(told + reach))) - 1 / (1 + np.exp(-(told - reach)))
    named = ", ".join(f"{name} {value:.2f}" for name, value in zip(FITTED, line.coef_, strict=True))
    return (
        f"{rows['pair'].nunique()} pairs, {len(rows)} models: {named}, intercept {line.intercept_:.2f},"
        f" reach {reach:.2f}\n"
        f"scenario left out: mean absolute error {100 * error.mean():.1f} points, of chosen models"
        f" {100 * error[chosen].mean():.1f}; median width {100 * np.median(wide[chosen]):.1f}; all models inside"
        f" {100 * (miss <= reach).mean():.0f}%; least agreement of methods {rows['methods'].min():.2f}"
    )


def main() -> None:
    """Fits and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimate_fit", description=__doc__)
    parser.add_argument("--params", type=Path, required=True)
    parser.add_argument("--rule", type=Path, help="params.yaml whose `select` is used; default: --params")
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("pairs", nargs="+", metavar="PAIR=FOLDER")
    given = parser.parse_args()
    split = [text.partition("=") for text in given.pairs]
    rows = [
        row for pair, _, folder in split for row in rows_of(given.params, given.rule, pair, Path(folder), given.pool)
    ]
    print(report(pd.DataFrame(rows)))


if __name__ == "__main__":
    main()

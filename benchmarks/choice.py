"""Measures the choice and the estimate on real pairs, each family left out of what is settled.

`python -m benchmarks.choice --mirror MIRROR --out out/choice [steel office ...] [--write .] [--settle]` trains
source_only, zscore, mcc and shot as the stage `train` does, lets `select` choose, and holds both against the labels.
What is settled (the fixed answer, the reach of the estimate) looks at the target's TRAINING labels alone; the tables
are of the test split. `--settle` writes `evaluation/confidence/estimate.json`.
"""

import argparse
import contextlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.methods import no_labels, params_of
from benchmarks.real_pairs import DATA_SETS, METHODS, Pair, labels_of, pairs
from benchmarks.sections import table, write_section
from isthmus.core.accuracy import balanced_accuracy
from isthmus.core.files import read_json, write_json
from isthmus.evaluation import metrics
from isthmus.evaluation.confidence import estimate
from isthmus.evaluation.confidence.calibrated import judged
from isthmus.evaluation.confidence.trust import averaged, build_trust, trust_against_labels
from isthmus.evaluation.selection.choice import SOURCE_ONLY, Part
from isthmus.evaluation.selection.ensemble import Ensemble, open_compared
from isthmus.evaluation.trained import open_trained, read_samples
from isthmus.stages import evaluate, select, train

SETS = [name for name in DATA_SETS if name != "digits"]  # the answer and the estimate were settled on these
RESAMPLES = 1000
HOLDS = 0.85  # [share] of known pairs that the interval is to hold
ANSWERS = {  # what is compared: methods whose mean over all seeds answers; the first alone is a mean of single seeds
    "source_only": ("source_only",),
    "zscore": ("zscore",),
    "mcc": ("mcc",),
    "shot": ("shot",),
    "zscore + mcc": ("zscore", "mcc"),
    "mcc + shot": ("mcc", "shot"),
    "source_only + mcc": ("source_only", "mcc"),
    "source_only + mcc + shot": ("source_only", "mcc", "shot"),
    "zscore + mcc + shot": ("zscore", "mcc", "shot"),
}
ESTIMATE = Path(estimate.__file__).with_suffix(".json")


def measured(pair: Pair, compared: Sequence[str] = METHODS) -> dict[str, Any]:
    """Trains, chooses and scores one pair with the given methods; what is there already is not done again."""
    done = pair.folder / "result.json"
    if not done.is_file():
        train_and_choose(pair, compared)
        params = params_of(evaluate.Params, pair.folder / "params.yaml", scenario=pair.name)
        write_json(done, {"pair": pair.name, "family": pair.family} | _scored(pair, params, compared))
    found: dict[str, Any] = read_json(done)
    return found


def train_and_choose(pair: Pair, compared: Sequence[str]) -> None:
    """Trains what is not trained yet, and writes `choice.json`."""
    own, work = pair.folder / "params.yaml", pair.folder
    tables = {"manifest": work / "manifest.parquet", "prepared": work / "prepared"}
    for method in compared:
        if not (work / "train" / method / "run.json").is_file():
            train.run(
                params_of(train.Params, own, scenario=pair.name, method=method),
                scenario=pair.name,
                method=method,
                **tables,
                features=work / "features",
                labels_train=no_labels(work),
                checkpoints=work / "checkpoints",
                trained=work / "train" / method,
            )
    chosen_by = params_of(select.Params, own, scenario=pair.name)
    chosen_by = chosen_by.model_copy(update={"methods": {m: chosen_by.methods[m] for m in compared}})
    select.run(chosen_by, **tables, trained=work / "train", choice=work / "choice.json")


def _scored(pair: Pair, params: evaluate.Params, compared: Sequence[str]) -> dict[str, Any]:
    made, scenario = read_json(pair.folder / "choice.json"), params.scenario
    samples = read_samples(pair.folder / "manifest.parquet", pair.folder / "prepared")
    labels = labels_of(pair, samples.image_id)
    runs = open_compared(pair.folder / "train", made, scenario.classes, len(labels))
    trained = open_trained(pair.folder / "train", compared, scenario.classes, len(labels))
    rows = {split: samples.rows([scenario.target], split) for split in ("train", "test")}
    accuracy: dict[str, dict[str, float]] = {}
    for name, methods in ({m: (m,) for m in compared} | ANSWERS).items():
        if not {*methods} <= {*compared}:
            continue
        parts = [Part(m, s, made["epochs"][m]) for m in methods for s in trained[m].facts.seeds]
        logits = Ensemble(trained, parts).logits(0, 0) if len(methods) > 1 else None
        planes = logits[None] if logits is not None else trained[methods[0]].all_logits(made["epochs"][methods[0]])
        accuracy[name] = {
            split: 100 * float(np.mean([balanced_accuracy(p[at].argmax(axis=1), labels[at]) for p in planes]))
            for split, at in rows.items()
        }
    chosen = runs[made["chosen"]["method"]]
    logits = chosen.all_logits(made["chosen"]["epoch"])
    accuracy["chosen"] = {
        split: 100 * float(np.mean([balanced_accuracy(p[at].argmax(axis=1), labels[at]) for p in logits]))
        for split, at in rows.items()
    }
    without = trained[SOURCE_ONLY].all_logits(made["epochs"][SOURCE_ONLY])
    gain = {split: _gain(logits[:, at], without[:, at], labels[at], samples.group[at]) for split, at in rows.items()}
    model = judged(chosen, made["chosen"], samples, scenario.source, scenario.target, params.evaluate)
    methods = averaged(made, runs)
    trust = build_trust(model, samples, scenario.source, methods, params.evaluate, 0)
    held = trust_against_labels(model, samples, labels, rows["test"], trust, params.evaluate, 0)
    settled = None
    if len(methods) > 1:
        at = rows["train"]
        agreed = estimate.agreement({m: p[:, at] for m, p in methods.items()}).mean()
        right = metrics.accuracy(logits[0, at].argmax(axis=1), labels[at])
        settled = {"agreement": float(agreed), "accuracy": right}
    return {
        "chosen": made["chosen"]["method"],
        "why": made["chosen"]["why"],
        "test_images": len(rows["test"]),
        "accuracy": accuracy,
        "gain": gain,
        "train": settled,
        "estimate": trust["estimate"],
        "true_accuracy": held["estimate"]["true_accuracy"],
        "coverage": held["conformal"]["coverage"]["mean"],
        "nominal": params.evaluate.coverage,
    }


def _gain(chosen: np.ndarray, source_only: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Returns the paired 95% interval of the chosen model's gain over source-only in points, both means over seeds."""
    right = np.concatenate([chosen, source_only]).argmax(axis=2) == labels
    weights = metrics.group_weights(groups, RESAMPLES, 0)
    drawn = 100 * metrics.resampled_balanced_accuracy(right, labels, weights)
    return metrics.interval(drawn[:, : len(chosen)].mean(axis=1) - drawn[:, len(chosen) :].mean(axis=1))


def gains(results: list[dict[str, Any]], split: str) -> str:
    """Returns how many pairs the choice is significantly above and below source-only on, and the lowest."""
    points = {r["pair"]: r["accuracy"]["chosen"][split] - r["accuracy"][SOURCE_ONLY][split] for r in results}
    within = {r["pair"]: r["gain"][split] for r in results}
    lowest = min(points, key=lambda pair: points[pair])
    low, high = within[lowest]
    return (
        f"significantly above source-only on {sum(low > 0 for low, _ in within.values())} of {len(results)} pairs,"
        f" below on {sum(high < 0 for _, high in within.values())}; lowest {lowest},"
        f" {points[lowest]:+.1f} ({low:+.1f} to {high:+.1f})"
    )


def reach_of(errors: np.ndarray) -> float:
    """Returns the error that `HOLDS` of the pairs keep to, as conformal prediction counts: rank of n + 1."""
    rank = min(len(errors), int(np.ceil(HOLDS * (len(errors) + 1))))
    return float(np.sort(np.abs(errors))[rank - 1])


def summary(results: list[dict[str, Any]]) -> str:
    """Returns the answers with their regret as Markdown, and the estimate in two sentences."""
    frame, family = _frame(results, "test"), _families(results)
    best = frame[list(METHODS)].max(axis=1)
    head = (
        "answer",
        "accuracy",
        "regret to the best method",
        "worst",
        "lowest against source_only",
        "over a point below",
    )
    rows = []
    for name in frame.columns:
        regret, gain = best - frame[name], frame[name] - frame[SOURCE_ONLY]
        means = [f"{values.groupby(family).mean().mean():.1f}" for values in (frame[name], regret)]
        below = f"{(gain < -1).sum()} of {len(gain)}"
        rows.append((name, *means, f"{regret.max():.1f}", f"{gain.min():+.1f}", below))
    known = [e for e in map(partial(_estimate, results), results) if e is not None]
    errors = {
        name: 100 * np.mean([abs(e[name] - e["true"]) for e in known]) for name in ("agreement", "atc", "confidence")
    }
    coverage = [r["coverage"] for r in results]
    inside = f"holds {sum(e['inside'] for e in known)} of {len(known)}"
    text = (
        f"Estimated accuracy: mean error {errors['agreement']:.1f} points (ATC {errors['atc']:.1f}, mean confidence"
        f" after calibration {errors['confidence']:.1f}); the interval, its reach from the other families, {inside};"
        f" 'cannot tell' on {len(results) - len(known)} of {len(results)}. Conformal sets, nominal"
        f" {results[0]['nominal']:.0%}: on the target {np.mean(coverage):.0%} in the mean, lowest {min(coverage):.0%}."
    )
    return f"{table(head, *rows)}\n\n{text}"


def details(results: list[dict[str, Any]]) -> str:
    """Returns what each family would have had settled on the others, and every pair, as Markdown."""
    frame, settle, family = _frame(results, "test"), _frame(results, "train"), _families(results)
    best = frame[list(METHODS)].max(axis=1)
    lost = (settle[list(METHODS)].max(axis=1) - settle["chosen"]).groupby(family).mean().mean()
    text = (
        f"The choice, with paired 95% intervals: {gains(results, 'test')}. On the training split, of more images, whose"
        f" labels settled the answer: regret {lost:.1f}, {gains(results, 'train')}."
    )
    left_out = []
    for left in family.unique() if family.nunique() > 1 else ():
        others = settle[family != left][list(ANSWERS)].groupby(family).mean().mean()
        name = str(others.idxmax())
        left_out.append((left, name, f"{(best - frame[name])[family == left].mean():.1f}"))
    rows = []
    for result in results:
        known = _estimate(results, result)
        shown = "cannot tell" if known is None else f"{100 * known['agreement']:.0f} ± {100 * known['reach']:.0f}"
        parts = result["estimate"]["parts"]
        shares = (result["true_accuracy"], parts["atc"]["mean"], parts["confidence"]["mean"], result["coverage"])
        cells = [f"{value:.1f}" for value in frame.loc[result["pair"]]]
        low, high = result["gain"]["test"]
        cells.append(f"{low:+.1f} to {high:+.1f}")
        rows.append((result["pair"], result["test_images"], *cells, shown, *(f"{100 * share:.0f}" for share in shares)))
    head = (
        "pair",
        "test images",
        *frame.columns,
        "chosen - source_only",
        "estimated",
        "true",
        "ATC",
        "mean confidence",
        "coverage",
    )
    settled_on = table(("family left out", "settled on the others", "its regret there"), *left_out)
    return f"{text}\n\n{settled_on}\n\n{table(head, *rows)}"


def _frame(results: list[dict[str, Any]], split: str) -> pd.DataFrame:
    return pd.DataFrame({r["pair"]: {name: a[split] for name, a in r["accuracy"].items()} for r in results}).T


def _families(results: list[dict[str, Any]]) -> pd.Series:
    return pd.Series({r["pair"]: r["family"] for r in results})


def _estimate(results: list[dict[str, Any]], result: dict[str, Any]) -> dict[str, float] | None:
    """Returns the estimate of a pair with the reach that the other families give; None where nothing is known."""
    parts = result["estimate"]["parts"]
    others = [r["train"] for r in results if r["family"] != result["family"] and r["train"]]
    if "agreement" not in parts or not others:
        return None
    spread = (parts["agreement"]["high"] - parts["agreement"]["low"]) / 2
    own = max(spread, estimate.left_open(result["test_images"]))
    reach = float(np.hypot(reach_of(np.array([t["agreement"] - t["accuracy"] for t in others])), own))
    known = {name: parts[name]["mean"] for name in ("agreement", "atc", "confidence")}
    inside = abs(known["agreement"] - result["true_accuracy"]) <= reach
    return known | {"true": result["true_accuracy"], "reach": reach, "inside": inside}


def settled(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the content of `estimate.json`."""
    errors = np.array([r["train"]["agreement"] - r["train"]["accuracy"] for r in results if r["train"]])
    coverage = [r["coverage"] for r in results]
    return {
        "made_by": "python -m benchmarks.choice --settle",
        "pairs": len(results),
        "families": len({r["family"] for r in results}),
        "holds": HOLDS,
        "reach": round(reach_of(errors), 3),
        "coverage": {
            "nominal": results[0]["nominal"],
            "mean": round(float(np.mean(coverage)), 3),
            "lowest": round(min(coverage), 3),
        },
    }


def main() -> None:
    """Runs the data sets that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choice", description=__doc__)
    parser.add_argument("--mirror", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--out", type=Path, required=True, help="working folder; what is there is not done again")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument(
        "--write", type=Path, help="folder of the repository: README.md and docs/benchmarks.md get the tables"
    )
    parser.add_argument("--settle", action="store_true", help="write estimate.json of the package")
    parser.add_argument("sets", nargs="*", metavar="DATA_SET", help=f"default: {', '.join(SETS)}")
    given = parser.parse_args()
    results = []
    for pair in pairs(given.mirror.resolve(), given.out.resolve(), given.params.resolve(), given.sets or SETS):
        with Path(os.devnull).open("w", encoding="utf-8") as silent, contextlib.redirect_stdout(silent):
            results.append(measured(pair))
        print(f"{pair.name}: chosen {results[-1]['accuracy']['chosen']['train']:.1f}", flush=True)
    short, long = summary(results), details(results)
    print(f"{short}\n\n{long}")
    if given.write:
        write_section(given.write / "docs" / "benchmarks.md", "choice", f"{short}\n\n{long}")
        write_section(given.write / "README.md", "choice", short)
    if given.settle:
        write_json(ESTIMATE, settled(results))


if __name__ == "__main__":
    main()

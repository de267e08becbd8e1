"""Measures the choice and the estimate on real pairs, each family left out of what is settled.

`python -m benchmarks.choice --mirror MIRROR --out out/choice [steel office ...] [--write docs/benchmarks.md] [--settle]`:
trains source_only, zscore, mcc and shot as the stage `train` does, lets `select` choose, and holds both against the
labels. What is settled (the fixed answer, the reach of the estimate) looks at the target's TRAINING labels alone; the
table is of the test split. `--settle` writes `evaluation/confidence/estimate.json`.
"""

import argparse
import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.methods import params_of
from benchmarks.real_pairs import DATA_SETS, METHODS, Pair, labels_of, pairs
from benchmarks.sections import write_section
from isthmus.core.accuracy import balanced_accuracy
from isthmus.core.files import read_json, write_json
from isthmus.evaluation import metrics
from isthmus.evaluation.confidence import estimate
from isthmus.evaluation.confidence.calibrated import judged
from isthmus.evaluation.confidence.trust import build_trust, reference_of, trust_against_labels
from isthmus.evaluation.selection.choice import Part
from isthmus.evaluation.selection.ensemble import Ensemble, open_compared
from isthmus.evaluation.trained import open_trained, read_samples
from isthmus.stages import evaluate, select, train

HOLDS = 0.85  # [share] of known pairs that the interval is to hold
ANSWERS = {  # what is compared: methods whose mean over all seeds answers; the first alone is a mean of single seeds
    "source_only": ("source_only",),
    "zscore": ("zscore",),
    "mcc": ("mcc",),
    "shot": ("shot",),
    "mcc + shot": ("mcc", "shot"),
    "source_only + mcc + shot": ("source_only", "mcc", "shot"),
    "zscore + mcc + shot": ("zscore", "mcc", "shot"),
}
ESTIMATE = Path(estimate.__file__).with_suffix(".json")


def measured(pair: Pair) -> dict[str, Any]:
    """Trains, chooses and scores one pair; what is there already is not done again."""
    done = pair.folder / "result.json"
    if done.is_file():
        found: dict[str, Any] = read_json(done)
        return found
    own, work = pair.folder / "params.yaml", pair.folder
    tables = {"manifest": work / "manifest.parquet", "prepared": work / "prepared"}
    for method in METHODS:
        if not (work / "train" / method / "run.json").is_file():
            train.run(
                params_of(train.Params, own, scenario=pair.name, method=method),
                scenario=pair.name,
                method=method,
                **tables,
                features=work / "features",
                checkpoints=work / "checkpoints",
                trained=work / "train" / method,
            )
    chosen_by = params_of(select.Params, own, scenario=pair.name)
    select.run(chosen_by, **tables, trained=work / "train", choice=work / "choice.json")
    result = {"pair": pair.name, "family": pair.family} | _scored(
        pair, params_of(evaluate.Params, own, scenario=pair.name)
    )
    write_json(done, result)
    return result


def _scored(pair: Pair, params: evaluate.Params) -> dict[str, Any]:
    made, scenario = read_json(pair.folder / "choice.json"), params.scenario
    samples = read_samples(pair.folder / "manifest.parquet", pair.folder / "prepared")
    labels = labels_of(pair, samples.image_id)
    runs = open_compared(pair.folder / "train", made, scenario.classes, len(labels))
    trained = open_trained(pair.folder / "train", METHODS, scenario.classes, len(labels))
    rows = {split: samples.rows([scenario.target], split) for split in ("train", "test")}
    accuracy: dict[str, dict[str, float]] = {}
    for name, methods in ANSWERS.items():
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
    model = judged(chosen, made["chosen"], samples, scenario.source, scenario.target, params.evaluate)
    reference, missing = reference_of(made, runs)
    trust = build_trust(model, samples, scenario.source, reference, missing, params.evaluate, 0)
    held = trust_against_labels(model, samples, labels, rows["test"], trust, params.evaluate, 0)
    at = rows["train"]
    settled = None
    if reference is not None:
        right = metrics.accuracy(logits[0, at].argmax(axis=1), labels[at])
        settled = {"agreement": float((reference[:, at] == logits[0, at].argmax(axis=1)).mean()), "accuracy": right}
    return {
        "chosen": made["chosen"]["method"],
        "why": made["chosen"]["why"],
        "test_images": len(rows["test"]),
        "accuracy": accuracy,
        "train": settled,
        "estimate": trust["estimate"],
        "true_accuracy": held["estimate"]["true_accuracy"],
        "coverage": held["conformal"]["coverage"]["mean"],
        "nominal": params.evaluate.coverage,
    }


def reach_of(errors: np.ndarray) -> float:
    """Returns the error that `HOLDS` of the pairs keep to, as conformal prediction counts: rank of n + 1."""
    rank = min(len(errors), int(np.ceil(HOLDS * (len(errors) + 1))))
    return float(np.sort(np.abs(errors))[rank - 1])


def tables(results: list[dict[str, Any]]) -> str:
    """Returns the Markdown: accuracy by pair, answers with regret, the estimate with its interval."""
    frame = pd.DataFrame({r["pair"]: {a: s["test"] for a, s in r["accuracy"].items()} for r in results}).T
    settle = pd.DataFrame({r["pair"]: {a: s["train"] for a, s in r["accuracy"].items()} for r in results}).T
    family = pd.Series({r["pair"]: r["family"] for r in results})
    single = [m for m in METHODS if m in frame]
    best = frame[single].max(axis=1)
    lines = [
        "| answer | accuracy | regret to the best single method | worst | lowest against source_only | pairs more than a point below |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in frame.columns:
        regret, gain = best - frame[name], frame[name] - frame["source_only"]
        by_family = [s.groupby(family).mean().mean() for s in (frame[name], regret)]
        lines.append(
            f"| {name} | {by_family[0]:.1f} | {by_family[1]:.1f} | {regret.max():.1f} | {gain.min():+.1f} | {(gain < -1).sum()} of {len(gain)} |"
        )
    lines += ["", "| family left out | settled on the others | its regret there |", "| --- | --- | --- |"]
    for left in family.unique() if family.nunique() > 1 else ():
        others = settle[family != left][list(ANSWERS)].groupby(family).mean().mean()
        name = str(others.idxmax())
        lines.append(f"| {left} | {name} | {(best - frame[name])[family == left].mean():.1f} |")
    lines += [
        "",
        "| pair | test images | "
        + " | ".join(frame.columns)
        + " | estimated | true | ATC | mean confidence | coverage |",
        "| --- " * (len(frame.columns) + 7) + "|",
    ]
    rows = []
    for r in results:
        told, parts = r["estimate"], r["estimate"]["parts"]
        others = np.array(
            [
                abs(o["train"]["agreement"] - o["train"]["accuracy"])
                for o in results
                if o["family"] != r["family"] and o["train"]
            ]
        )
        left = reach_of(others) if len(others) else float("nan")
        agreed = parts["agreement"]["mean"] if "agreement" in parts else None
        width = (parts["agreement"]["high"] - parts["agreement"]["low"]) / 2 if agreed is not None else 0.0
        inside = None if agreed is None else abs(agreed - r["true_accuracy"]) <= np.hypot(left, width)
        rows.append(
            (
                agreed,
                r["true_accuracy"],
                inside,
                parts["atc"]["mean"],
                parts["confidence"]["mean"],
                told["accuracy"] is None,
            )
        )
        shown = "cannot tell" if agreed is None else f"{100 * agreed:.0f} ± {100 * np.hypot(left, width):.0f}"
        cells = " | ".join(f"{frame.loc[r['pair'], c]:.1f}" for c in frame.columns)
        lines.append(
            f"| {r['pair']} | {r['test_images']} | {cells} | {shown} | {100 * r['true_accuracy']:.0f} | {100 * parts['atc']['mean']:.0f} | {100 * parts['confidence']['mean']:.0f} | {100 * r['coverage']:.0f} |"
        )
    told_rows = [row for row in rows if row[0] is not None]
    error = lambda k: 100 * np.mean([abs(row[k] - row[1]) for row in told_rows])  # noqa: E731
    lines += [
        "",
        f"Estimate: mean error {error(0):.1f} points (ATC {error(3):.1f}, mean confidence after calibration {error(4):.1f}); the interval, its reach from the other families, holds {sum(row[2] for row in told_rows)} of {len(told_rows)}; 'cannot tell' on {sum(row[5] for row in rows)} of {len(rows)}. Coverage on the target, nominal {results[0]['nominal']:.0%}: mean {np.mean([r['coverage'] for r in results]):.0%}, lowest {min(r['coverage'] for r in results):.0%}.",
    ]
    return "\n".join(lines)


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
    parser.add_argument("--write", type=Path, help="Markdown file whose section 'choice' is replaced")
    parser.add_argument("--settle", action="store_true", help="write estimate.json of the package")
    parser.add_argument("sets", nargs="*", metavar="DATA_SET", help=f"default: all of {', '.join(DATA_SETS)}")
    given = parser.parse_args()
    results = []
    for pair in pairs(
        given.mirror.resolve(), given.out.resolve(), given.params.resolve(), given.sets or list(DATA_SETS)
    ):
        with open(os.devnull, "w", encoding="utf-8") as silent, contextlib.redirect_stdout(silent):
            results.append(measured(pair))
        print(f"{pair.name}: chosen {results[-1]['accuracy']['chosen']['train']:.1f}", flush=True)
    text = tables(results)
    print(text)
    if given.write:
        write_section(given.write, "choice", text)
    if given.settle:
        write_json(ESTIMATE, settled(results))


if __name__ == "__main__":
    main()

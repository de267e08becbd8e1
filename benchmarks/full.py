"""Fine-tunes every weight of the ViT with some methods on prepared pairs and prints the target's test accuracy.

    isthmus fetch steel && isthmus fetch blood && isthmus fetch scenes     (with --mirror DIR where there is no network)
    python -m benchmarks.full --report docs/benchmarks.md steel blood scenes

ViT-S/14 at 98 x 98 (49 patches), AdamW, backbone at a fiftieth of the head's rate (2e-5), bfloat16 in the forward pass,
last epoch; all fixed before the first run. Stages `ingest`, `prepare`, `embed` and `train` run as in the graph, in a
folder of their own. No target label is used before the last step, where the test split gives the balanced accuracy.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.methods import accuracies, trained
from benchmarks.sections import write_section

METHODS = ("source_only", "zscore", "dann", "mmd", "coral", "mcc")
SIDE = 98  # [pixel]
MODEL = {"mode": "full", "learning_rate": 1e-3, "backbone_rate": 0.02, "precision": "bf16"}
SECTION = "full fine-tuning: benchmarks/full.py"


def settings(params: Path, scenarios: list[str], epochs: int, seeds: int, folder: Path) -> Path:
    """Writes the params of this benchmark: the scenarios as they are, small images, every weight trained."""
    document = yaml.safe_load(params.read_text(encoding="utf-8"))
    model = document["models"]["vit"]
    document["models"]["vit"] = model | MODEL | {"epochs": epochs}
    document["train"] |= {"seeds": list(range(seeds)), "keep": 1}
    for name in scenarios:
        scenario = document["scenarios"][name]
        scenario["preprocess"] = scenario.get("preprocess", {}) | {"image_size": SIDE}
    path = folder / "full.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def prepared(params: Path, name: str, folder: Path, cache: Path) -> None:
    """Runs the stages before training into a folder; what is there is not made again."""
    raw = yaml.safe_load(params.read_text(encoding="utf-8"))["scenarios"][name]["raw"]
    tables = {"manifest": folder / "manifest.parquet", "locations": folder / "locations.parquet"}
    judged = {"labels-target": folder / "labels_target.parquet"}
    reports = {"audit": folder / "audit.json", "quarantine": folder / "quarantine.json"}
    if not (folder / "manifest.parquet").exists():
        _stage("ingest", params, name, {"raw": raw} | tables | judged | reports)
    if not (folder / "prepared").exists():
        made = {"checkpoints": folder / "checkpoints", "prepared": folder / "prepared"}
        _stage("prepare", params, name, {"raw": raw} | tables | made)
    if not (folder / "features").exists():
        _stage(
            "embed", params, name, {"prepared": folder / "prepared", "cache": cache, "features": folder / "features"}
        )


def _stage(stage: str, params: Path, name: str, flags: dict[str, Any]) -> None:
    command = [sys.executable, "-m", f"isthmus.stages.{stage}", "--params", str(params), "--scenario", name]
    for flag, value in flags.items():
        command += [f"--{flag}", str(value)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def table(results: dict[str, dict[str, list[float]]], scenarios: list[str]) -> str:
    """Returns a Markdown table: method by scenario, mean over seeds and, of several, least to greatest."""
    lines = [f"| method | {' | '.join(scenarios)} |", "| --- |" + " --- |" * len(scenarios)]
    for method, found in results.items():
        lines.append(f"| {method} | {' | '.join(_cell(found.get(name, [])) for name in scenarios)} |")
    return "\n".join(lines)


def _cell(accuracies: list[float]) -> str:
    shares = 100 * np.array(accuracies)
    if not len(shares):
        return ""
    spread = f" ({shares.min():.1f} to {shares.max():.1f})" if len(shares) > 1 else ""
    return f"{shares.mean():.1f}{spread}"


def main(arguments: list[str] | None = None) -> None:
    """Measures, prints, and writes the section of the report where one is named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full", description=__doc__)
    parser.add_argument("scenarios", nargs="+")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), help="has the scenarios")
    parser.add_argument("--cache", type=Path, default=Path(".isthmus/cache"), help="of pretrained weights")
    parser.add_argument("--work", type=Path, help="folder for what the stages write; kept, so that a run can go on")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=list(METHODS), help="methods")
    parser.add_argument("--report", type=Path, help="Markdown file that the section is written to")
    given = parser.parse_args(arguments)
    results: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        params = settings(given.params, given.scenarios, given.epochs, given.seeds, work)
        for name in given.scenarios:
            (work / name).mkdir(exist_ok=True)
            prepared(params, name, work / name, given.cache)
            for method in given.only:
                own = work / name / "runs" / f"{given.epochs}-epochs-{given.seeds}-seeds" / method
                own.mkdir(parents=True, exist_ok=True)
                took = "measured before"
                if not (own / method / "run.json").is_file():
                    took = f"{trained(params, name, method, work / name, own):.0f} s"
                found = accuracies(work / name, own / method, "test")[0]
                results.setdefault(method, {})[name] = found
                print(f"{name} {method}: {_cell(found)} ({took})", flush=True)
    text = table(results, given.scenarios)
    print(text)
    if given.report:
        about = (
            f"## Full fine-tuning at {SIDE} x {SIDE}\n\nBalanced accuracy on the target's test split [%],"
            f" {given.epochs} epochs, {given.seeds} seed(s), ViT-S/14, every weight trained. `python -m benchmarks.full"
            f" --epochs {given.epochs} {' '.join(given.scenarios)}`, which also says how.\n\n"
        )
        write_section(given.report, SECTION, about + text)


if __name__ == "__main__":
    main()

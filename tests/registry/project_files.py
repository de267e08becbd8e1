"""Builds a small project with a real `dvc.lock`, git repository and loadable weights, without running a stage."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import ones, zeros

from isthmus.core.files import read_json, write_json
from isthmus.models import ModelConfig
from isthmus.models.classifier import Classifier, Features, Standardise
from isthmus.models.embedding import store_backbone
from isthmus.stages import code
from tests.report_files import TABLES
from tests.scenario_files import CLASSES, EPOCHS, SEEDS, ScenarioFiles, write_scenario

ROOT = Path(__file__).parents[2]
METHODS = {"source_only": 0.5, "coral": 0.8}
SIZE = 20  # [pixel]
VERDICT = {"label": "Better than source-only", "headline": "coral is better.", "detail": "By 30 points."}
CARD = {
    "score": {"key": "balanced_accuracy", "name": "balanced accuracy"},
    "verdict": VERDICT,
    "intended_use": "Sort images.",
}
_PLOTS = {
    "curves": "series,epoch,loss\ncoral,1,0.5\n",
    "leaderboard": "method,score,low,high,on\ncoral,0.8,0.7,0.9,target\n",
    "confusion": "true,predicted,share\n$x$,a$b,0.8\n",
    "reliability": "series,confidence,accuracy\n",
}


def build_project(root: Path) -> Path:
    """Writes files, `dvc.lock` and a first commit; scenario `demo`, coral chosen, target labels there."""
    root.mkdir(parents=True)
    files = write_scenario(root / "made", METHODS, images=60)
    _write_params(root, files)
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", "requirements.lock"):
        shutil.copy(ROOT / name, root / name)
    for name in ("data/labels", "plugins"):
        shutil.copytree(ROOT / name, root / name)
    shutil.copytree(ROOT / "src" / "isthmus", root / "src" / "isthmus", ignore=shutil.ignore_patterns("__pycache__"))
    out = root / "out" / "demo"
    shutil.move(root / "made", out)
    code.run(package=root / "src" / "isthmus", plugins=root / "plugins", out=root / "out" / "code")
    (out / "params.yaml").unlink()
    _write_weights(out)
    _write_results(root, out)
    git(root, "init", "-q")
    dvc(root, "init", "-q")
    dvc(root, "commit", "-q", "-f")
    commit(root)
    return root


def truth(coral: float, source_only: float, interval: float = 0.05) -> dict[str, Any]:
    """Returns a `truth.json` with these balanced accuracies."""
    gain = {"source_only": 0.0, "coral": coral - source_only}
    scores = {"source_only": source_only, "coral": coral}
    methods = {
        name: {
            "epoch": 4,
            "balanced_accuracy": {"mean": s, "low": s - interval, "high": s + interval, "per_seed": [s, s, s]},
            "per_class": {"crack": {"recall": s}},
            "minus_source_only": {"mean": gain[name], "low": gain[name] - interval, "high": gain[name] + interval},
        }
        for name, s in scores.items()
    }
    regret = {"mean": 0.0, "low": 0.0, "high": 0.0}
    return {"available": True, "classes": CLASSES, "count": 24, "methods": methods, "chosen": "coral", "regret": regret}


def set_truth(project: Path, values: dict[str, Any]) -> None:
    """Replaces `truth.json` as another run of `evaluate` would, lock entries included."""
    write_json(project / "out" / "demo" / "truth.json", values)
    dvc(project, "commit", "-q", "-f", "evaluate@demo", "report@demo")


def git(project: Path, *arguments: str) -> str:
    """Runs git as an unnamed test user and returns its output."""
    identity = {f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    command = ["git", "-C", str(project), "-c", "init.defaultBranch=main", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=clean | identity)
    return done.stdout.strip()


def commit(project: Path) -> None:
    """Commits everything."""
    git(project, "add", "-A")
    git(project, "commit", "-q", "--allow-empty", "-m", "test")


def dvc(project: Path, *arguments: str) -> None:
    """Runs dvc."""
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=project, check=True, capture_output=True)


def _write_params(root: Path, files: ScenarioFiles) -> None:
    shipped = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    document = shipped | yaml.safe_load(files.params.read_text(encoding="utf-8")) | {"pairs": {}}
    document["scenarios"]["demo"]["preprocess"] = {"image_size": SIZE}
    (root / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")


def _write_weights(out: Path) -> None:
    config = ModelConfig(mode="frozen", backbone={"name": "small_cnn"}, bottleneck=8)
    built = config.backbone_config("test: ").build(3, SIZE, out)
    store_backbone(out / "features", built, config, 3, SIZE)
    write_json(out / "model.json", config.model_dump(mode="json"))
    for method in METHODS:
        folder = out / "train" / method
        facts = read_json(folder / "run.json")
        write_json(folder / "run.json", facts | {"config": {"model": config.model_dump(mode="json")}})
        for seed in SEEDS:
            standardise = Standardise(zeros(2, built.feature_dim), ones(2, built.feature_dim))
            model = Classifier(Features(standardise), built.feature_dim, len(CLASSES), 8, "batch", seed)
            for epoch in EPOCHS:
                save_file(model.state_dict(), folder / "seeds" / str(seed) / "epochs" / f"{epoch:03d}.safetensors")


def _write_results(root: Path, out: Path) -> None:
    raw = root / "data" / "raw" / "demo" / "line_b" / "crack"
    raw.mkdir(parents=True)
    Image.new("RGB", (30, 24), (200, 30, 30)).save(raw / "one.png")
    for name in ("locations.parquet", "companions.parquet", "predictions.parquet"):
        (out / name).write_bytes(b"not read here")
    (out / "masks_target").mkdir(exist_ok=True)
    write_json(out / "shift" / "shift.json", {})
    chosen = {"method": "coral", "epoch": 4, "seed": 0, "fallback": False, "why": "it ranks first"}
    made = {"scenario": "demo", "chosen": chosen, "epochs": dict.fromkeys(METHODS, 4), "ensemble": None}
    write_json(out / "choice.json", made | {"candidates": []})
    write_json(out / "metrics.json", {"source_accuracy": 0.95, "source_count": 30})
    write_json(out / "truth.json", truth(0.8, 0.5))
    write_json(out / "trust.json", {"estimate": {"accuracy": None}})
    write_json(out / "explained" / "explain.json", {"why_not": "not read here", "images": []})
    write_json(out / "robustness.json", {"measured": False})
    shutil.copy(out / "labels_measure.parquet", out / "labels_train.parquet")
    (out / "report").mkdir()
    (out / "report" / "report.html").write_text("<p>report</p>", encoding="utf-8")
    (out / "report" / "model_card.json").write_text(json.dumps(CARD), encoding="utf-8")
    write_json(out / "scores.json", {"target": 0.8, "source_only": 0.5, "gain": 0.3})
    (out / "plots").mkdir()
    for name in TABLES:
        (out / "plots" / f"{name}.csv").write_text(_PLOTS[name])

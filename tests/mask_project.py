"""A small project whose answers are masks: raw files, params, and every stage run in this process, as dvc.yaml says."""

import csv
import importlib
import shlex
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from isthmus.stages._cli import stage

ROOT = Path(__file__).parents[1]
CLASSES = ["background", "blob"]
METHODS = {"source_only": {}, "domain_randomisation": {}, "mmd": {"weight": 1.0}}
SIDE = 48  # [pixel] of a raw image
SPLITS = {"day": ["train"] * 6 + ["val"] * 2 + ["cal"] * 2 + ["test"] * 2, "night": ["train"] * 6 + ["test"] * 4}
_STAGES = ["ingest", "labels", "prepare", "embed", "shift", "train", "select", "evaluate", "explain"]
_STAGES += ["robustness", "report"]


def write_raw(raw: Path, change: bool = False) -> None:
    """Writes bright disks on a dark ground by day and the negative by night, with their masks and `images.csv`."""
    generator = np.random.default_rng(0)
    lines = []
    for domain, splits in SPLITS.items():
        for number, split in enumerate(splits):
            mask = _disk(generator)
            ground = generator.normal(60, 6, (SIDE, SIDE, 3))
            first = ground + 120 * mask[..., None]
            name = f"{domain}/{number:02d}.png"
            images = {"images": generator.normal(60, 6, ground.shape), "later": first} if change else {"images": first}
            for folder, pixels in images.items():
                shown = np.clip(255 - pixels if domain == "night" else pixels, 0, 255).astype(np.uint8)
                _save(raw / folder / name, shown)
            truth = mask.astype(np.uint8)
            truth[:2] = 255
            _save(raw / "masks" / name, truth)
            lines.append([f"images/{name}", domain, f"masks/{name}", split, f"later/{name}" if change else ""])
    with (raw / "images.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path", "domain", "mask", "split", "image_b"], *lines])


def build_project(folder: Path, task: str = "segmentation", **scenario: object) -> Path:
    """Writes a project of one scenario `demo`; nothing has run yet."""
    write_raw(folder / "data" / "raw" / "demo", task == "change")
    for name in ("data/labels", "plugins"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("dvc.yaml", ".dvcignore", "requirements.lock"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder / name)
    (folder / "src").symlink_to(ROOT / "src")
    document = yaml.safe_load((ROOT / "params.yaml").read_text())
    demo = {"kind": "natural", "task": task, "raw": "data/raw/demo", "source": ["day"], "target": "night"}
    demo |= {"target_labels": "table", "classes": CLASSES, "model": "cells", "preprocess": {"image_size": SIDE}}
    backbone = {"name": "timm", "architecture": "vit_tiny_patch16_224", "weights": "random", "image_size": 48}
    cells = {"mode": "frozen", "backbone": backbone, "epochs": 1, "min_steps": 60, "bottleneck": 16, "views": 1}
    document |= {
        "scenarios": {"demo": demo | scenario},
        "models": {"cells": cells},
        "methods": METHODS,
        "pairs": {"digits": {}},
    }
    document["train"] |= {"seeds": [0, 1], "batch_size": 16}
    document["evaluate"] |= {"bootstrap": 100}
    (folder / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder


def run_stages(folder: Path, last: str = "report") -> Path:
    """Runs the stages of `demo` up to one, each with the flags of dvc.yaml."""
    graph = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]
    with chdir(folder):
        flags = ["--package", "src/isthmus", "--plugins", "plugins", "--out", "out/code"]
        stage(importlib.import_module("isthmus.stages.code").run, flags)
        for name in _STAGES:
            for method in METHODS if name == "train" else [""]:
                command = graph[name]["cmd"] if "cmd" in graph[name] else graph[name]["do"]["cmd"]
                values = {"key": "demo", "item.scenario": "demo", "item.method": method, "item.raw": "data/raw/demo"}
                for placeholder, value in values.items():
                    command = command.replace(f"${{{placeholder}}}", value)
                words = shlex.split(command)
                first = words.index(f"isthmus.stages.{name}") + 1
                stage(importlib.import_module(f"isthmus.stages.{name}").run, words[first:])
            if name == last:
                break
    return folder


def record(folder: Path) -> Path:
    """Makes git and DVC know what the stages wrote, as `dvc repro` would have left it."""
    (folder / ".gitignore").write_text("out\n.isthmus\nmlflow.db*\nmlartifacts\nsrc\n")
    for command in (
        "git init -q",
        "python -m dvc init -q",
        "python -m dvc add -q data/raw/demo",
        "python -m dvc commit -q -f --with-deps report@demo",
        "git add -A",
        "git -c user.name=a -c user.email=a@b.c commit -q -m results",
    ):
        words = shlex.split(command)
        words = [sys.executable, *words[1:]] if words[0] == "python" else words
        subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True)
    return folder


def _disk(generator: np.random.Generator) -> np.ndarray:
    row, column = generator.integers(12, SIDE - 12, 2)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (rows - row) ** 2 + (columns - column) ** 2 < int(generator.integers(6, 12)) ** 2


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)

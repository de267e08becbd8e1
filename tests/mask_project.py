"""A small project whose answers are masks or boxes: raw files, params, and every stage run here, as dvc.yaml says."""

import csv
import importlib
import json
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


def write_parts(raw: Path) -> None:
    """Writes grounds without a disk, which are good, and a few with one, by day and brighter by night, as folders."""
    generator = np.random.default_rng(0)
    for domain, light in (("day", 0), ("night", 60)):
        for number in range(36):
            kind = "hole" if number % 6 == 5 else "good"
            disk = _disk(generator) & (kind == "hole")
            pixels = generator.normal(60, 6, (SIDE, SIDE, 3)) + light + 120 * disk[..., None]
            name = f"{kind}/lot-{number // 2:02d}_{number:02d}.png"
            _save(raw / domain / name, pixels.clip(0, 255).astype(np.uint8))
            if kind == "hole":
                _save(raw / domain / "masks" / name.replace(".png", "_mask.png"), disk.astype(np.uint8) * 255)


def write_raw(raw: Path, task: str = "segmentation") -> None:
    """Writes bright disks on a dark ground by day and the negative by night, with masks or boxes, and `images.csv`."""
    change = task == "change"
    coco: dict[str, list] = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "blob"}]}
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
            beside = "annotations.json" if task == "detection" else f"masks/{name}"
            lines.append([f"images/{name}", domain, beside, split, f"later/{name}" if change else ""])
            if task == "detection":
                number = len(coco["images"]) + 1
                coco["images"].append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
                coco["annotations"].append({"id": number, "image_id": number, "category_id": 7, "bbox": _box(truth)})
                continue
            truth[:2] = 255
            _save(raw / "masks" / name, truth)
    if task == "detection":
        (raw / "annotations.json").write_text(json.dumps(coco))
    with (raw / "images.csv").open("w", newline="") as stream:
        column = "boxes" if task == "detection" else "mask"
        csv.writer(stream).writerows([["path", "domain", column, "split", "image_b"], *lines])


def build_project(folder: Path, task: str = "segmentation", **scenario: object) -> Path:
    """Writes a project of one scenario `demo`; nothing has run yet."""
    raw = folder / "data" / "raw" / "demo"
    if task == "anomaly":
        write_parts(raw)
    else:
        write_raw(raw, task)
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
    methods: dict[str, dict[str, float]] = METHODS
    if task == "anomaly":
        demo |= {"target_labels": "folders", "classes": ["good", "hole"], "group": "lot"}
        cells = {"mode": "frozen", "backbone": backbone, "epochs": 1, "head": "memory", "memory": {"false_alarms": 0.2}}
        cells["layer"] = 8  # of twelve blocks, so that no test of the pipeline passes with another
        methods = {"source_only": {}, "target_memory": {}, "mmd": {"weight": 1.0}}
    document |= {
        "scenarios": {"demo": demo | scenario},
        "models": {"cells": cells},
        "methods": methods,
        "pairs": {"digits": {}},
    }
    document["train"] |= {"seeds": [0, 1], "batch_size": 16, "workers": 1}
    document["evaluate"] |= {"bootstrap": 100}
    (folder / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return folder


def run_stages(folder: Path, last: str = "report", raw: str = "data/raw/demo") -> Path:
    """Runs the stages of `demo` up to one, each with the flags of dvc.yaml."""
    graph = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]
    methods = yaml.safe_load((folder / "params.yaml").read_text())["methods"]
    with chdir(folder):
        flags = ["--package", "src/isthmus", "--plugins", "plugins", "--out", "out/code"]
        stage(importlib.import_module("isthmus.stages.code").run, flags)
        for name in _STAGES:
            for method in methods if name == "train" else [""]:
                command = graph[name]["cmd"] if "cmd" in graph[name] else graph[name]["do"]["cmd"]
                values = {"key": "demo", "item.scenario": "demo", "item.method": method, "item.raw": raw}
                for placeholder, value in values.items():
                    command = command.replace(f"${{{placeholder}}}", value)
                words = shlex.split(command)
                first = words.index(f"isthmus.stages.{name}") + 1
                stage(importlib.import_module(f"isthmus.stages.{name}").run, words[first:])
            if name == last:
                break
    return folder


def record(folder: Path) -> Path:
    """Makes git and DVC know what the stages wrote, as `dvc repro` would have left it, with code of its own."""
    (folder / "src").unlink()
    shutil.copytree(ROOT / "src" / "isthmus", folder / "src" / "isthmus", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".gitignore").write_text("out\n.isthmus\nmlflow.db*\nmlartifacts\n__pycache__\n")
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


def _box(truth: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(truth.any(axis=1)), np.flatnonzero(truth.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)

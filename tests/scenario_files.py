"""Writes the files of one small scenario as the stages up to `train` would: for tests of what comes after them."""

import json
import shutil
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from safetensors.numpy import save_file

from isthmus.core.files import write_json
from isthmus.data.labels.given import GIVEN_LABELS
from isthmus.data.manifest import INDEX, MANIFEST, TARGET_LABELS, read_table, write_table

CLASSES = ["crack", "dent", "good"]
EPOCHS = [2, 4]
SEEDS = [0, 1, 2]


@dataclass(frozen=True)
class ScenarioFiles:
    """Where everything lies, and the truth that only `evaluate` may use."""

    root: Path
    params: Path
    manifest: Path
    labels_target: Path
    labels_measure: Path
    labels_train: Path
    masks_target: Path
    prepared: Path
    features: Path
    trained: Path
    audit: Path
    quarantine: Path

    def copied(self, root: Path) -> "ScenarioFiles":
        """Copies all files into a new folder and returns where they lie there: a test's own, made in no time."""
        shutil.copytree(self.root, root)
        return ScenarioFiles(*(root / getattr(self, field.name).relative_to(self.root) for field in fields(self)))


def write_scenario(
    root: Path, accuracy: dict[str, float], *, images: int = 240, target_labels: str = "folders", seed: int = 0
) -> ScenarioFiles:
    """Writes manifest, labels, shards, features and trained methods with about these target accuracies.

    `accuracy` maps a method's name to its target accuracy; `source_only` must be among them. Source accuracy
    is about 0.95 for each method.
    """
    rng = np.random.default_rng(seed)
    files = ScenarioFiles(
        root,
        *(
            root / n
            for n in (
                "params.yaml",
                "manifest.parquet",
                "labels_target.parquet",
                "labels_measure.parquet",
                "labels_train.parquet",
                "masks_target",
                "prepared",
                "features",
                "train",
            )
        ),
        root / "audit.json",
        root / "quarantine.json",
    )
    half = images // 2
    ids = sorted(f"{rng.integers(0, 2**63):016x}{rng.integers(0, 2**63):016x}" for _ in range(images))
    domain = np.array(["line_a", "line_b"])[rng.permutation(np.repeat([0, 1], half))]
    label = rng.integers(0, len(CLASSES), images)
    splits = np.where(
        domain == "line_a",
        rng.choice(["train", "val", "cal", "test"], images, p=[0.6, 0.15, 0.1, 0.15]),
        rng.choice(["train", "test"], images, p=[0.6, 0.4]),
    )
    manifest = pd.DataFrame(
        {
            "image_id": ids,
            "sha256": [f"{i:064x}" for i in range(images)],
            "part": "",
            "domain": domain,
            "split": splits,
            "group": [f"{g:016x}" for g in rng.integers(0, images // 3, images)],
            "label": pd.array(np.where(domain == "line_a", label, None), dtype="Int32"),
            "height": 20,
            "width": 20,
            "channels": 3,
            "dtype": "uint8",
            "file_bytes": 1000,
            "copies": 1,
        }
    )
    write_table(files.manifest, manifest, MANIFEST)
    target = domain == "line_b"
    labels = pd.DataFrame({"image_id": np.array(ids)[target], "label": label[target]})
    write_table(files.labels_target, labels if target_labels != "none" else labels.iloc[:0], TARGET_LABELS)
    for given in (files.labels_measure, files.labels_train):
        write_table(given, labels.iloc[:0], GIVEN_LABELS)
    _write_prepared(files, manifest, rng)
    for number, (method, share) in enumerate(accuracy.items()):
        _write_method(files.trained / method, method, share, label, target, np.random.default_rng(seed + 100 + number))
    write_json(files.audit, {"images": {"line_a": half, "line_b": half}, "bad_share": 0.0, "duplicates": 0})
    write_json(files.quarantine, [])
    _write_params(files, list(accuracy), target_labels)
    return files


def sharpen(files: ScenarioFiles, method: str, factor: float = 2.0) -> None:
    """Makes a method more confident on the target, as a well adapted one is: its label-free scores rise."""
    target = np.array([d == "line_b" for d in read_table(files.prepared / "index.parquet", INDEX)["domain"]])
    for path in (files.trained / method).glob("seeds/*/epochs/*.logits.npy"):
        logits = np.load(path)
        logits[target] *= factor
        np.save(path, logits)


def _write_prepared(files: ScenarioFiles, manifest: pd.DataFrame, rng: np.random.Generator) -> None:
    index = manifest[["image_id", "domain"]].copy()
    index["shard"] = np.where(index["domain"] == "line_a", "domain0-all", "domain1-all")
    index["row"] = index.groupby("shard").cumcount()
    (files.prepared / "shards").mkdir(parents=True)
    files.features.mkdir()
    for shard, count in index["shard"].value_counts().items():
        shift = 0 if shard == "domain0-all" else 60
        pixels = rng.integers(0, 150, (count, 20, 20, 3)) + shift
        np.save(files.prepared / "shards" / f"{shard}.npy", pixels.astype(np.uint8))
        np.save(files.features / f"{shard}.npy", rng.normal(shift / 60, 1, (count, 16)).astype(np.float32))
    write_table(files.prepared / "index.parquet", index, INDEX)
    embed = {"feature_dim": 16, "backbone": {"name": "small_cnn"}, "origin": "random weights, seed 0", "channels": 3}
    write_json(files.features / "embed.json", embed | {"image_size": 20, "mean": [0.5] * 3, "std": [0.5] * 3})
    both = {"line_a": [0.3] * 3, "line_b": [0.5] * 3}
    facts = {"classes": CLASSES, "channels": 3, "height": 20, "width": 20, "dtype": "uint8", "sources": 1}
    facts |= {"preprocess": {"image_size": 20, "channels": 3}}
    facts |= {"domains": ["line_a", "line_b"], "fitted": {"line_a": {}, "line_b": {}}, "mean": both, "std": both}
    facts |= {"count": {d: int((manifest["domain"] == d).sum()) for d in both}, "quarantine": []}
    write_json(files.prepared / "facts.json", facts)


def _write_method(
    folder: Path, method: str, share: float, label: np.ndarray, target: np.ndarray, rng: np.random.Generator
) -> None:
    run = {"scenario": "demo", "method": method, "mode": "full", "needs": "features", "optimises": []}
    run |= {"sees_target": method != "source_only", "seeds": SEEDS, "epochs": EPOCHS, "classes": CLASSES}
    run |= {
        "domains": ["line_a", "line_b"],
        "config": {"method": {}, "model": {"epochs": 4}, "train": {"batch_size": 64}},
    }
    write_json(folder / "run.json", run)
    for seed in SEEDS:
        epochs = folder / "seeds" / str(seed) / "epochs"
        epochs.mkdir(parents=True)
        lines = [
            {"epoch": e, "loss_source": 1 / e, "loss_total": 1 / e, "learning_rate": 0.001}
            | {"source_val_accuracy": 0.95, "source_val_balanced_accuracy": 0.95}
            for e in range(1, EPOCHS[-1] + 1)
        ]
        (epochs.parent / "curves.jsonl").write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))
        for epoch in EPOCHS:
            right = rng.random(len(label)) < np.where(target, share, 0.95)
            shown = np.where(right, label, (label + rng.integers(1, len(CLASSES), len(label))) % len(CLASSES))
            logits = rng.normal(0, 0.5, (len(label), len(CLASSES))).astype(np.float32)
            logits[np.arange(len(label)), shown] += 3
            embeddings = (np.eye(len(CLASSES), 8)[shown] * 3 + rng.normal(0, 0.5, (len(label), 8))).astype(np.float16)
            np.save(epochs / f"{epoch:03d}.logits.npy", logits)
            np.save(epochs / f"{epoch:03d}.embeddings.npy", embeddings)
            save_file({"head.weight": rng.normal(size=(3, 8)).astype(np.float32)}, epochs / f"{epoch:03d}.safetensors")


def _write_params(files: ScenarioFiles, methods: list[str], target_labels: str) -> None:
    scenario = {
        "kind": "natural",
        "raw": "data/raw/demo",
        "source": ["line_a"],
        "target": "line_b",
        "model": "small_cnn",
    }
    scenario |= {"target_labels": target_labels, "classes": CLASSES}
    document = {
        "scenarios": {"demo": scenario},
        "models": {"small_cnn": {"mode": "full", "backbone": {"name": "small_cnn"}}},
        "methods": {method: {} for method in methods},
        "seed": 0,
        "shift": {"max_images": 2000},
        "train": {"seeds": SEEDS, "batch_size": 64, "keep": 2},
        "select": {
            "average": ["coral"],
            "validators": {"entropy": {}, "information_maximisation": {}, "snd": {}},
        },
        "evaluate": {"bootstrap": 200},
        "robustness": {"images": 0},
        "gates": {"absolute_floor": {}, "no_negative_transfer": {}},
    }
    files.params.write_text(yaml.safe_dump(document, sort_keys=False))

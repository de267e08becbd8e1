"""Writes the files of a small scenario with masks as the stages up to `train` would: segmentation or change."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from safetensors.numpy import save_file

from isthmus.core.files import write_json
from isthmus.data.labels.given import GIVEN_LABELS
from isthmus.data.manifest import INDEX, MANIFEST, TARGET_LABELS, write_table
from isthmus.data.masks import IGNORED, cell_shares
from tests.scenario_files import SEEDS, ScenarioFiles

CLASSES = ["background", "cell", "debris"]
SIDE, GRID, EPOCH = 32, 8, 4
SPLITS = ["train"] * 10 + ["val"] * 4 + ["cal"] * 4 + ["test"] * 4, ["train"] * 10 + ["test"] * 12
RIGHT = {"source_only": 0.6, "coral": 0.7, "mmd": 0.95}  # [share] of the target's cells; of the source's 0.95


def write_mask_scenario(
    root: Path, right: dict[str, float] | None = None, *, task: str = "segmentation", target_masks: bool = True
) -> ScenarioFiles:
    """Writes everything; class `debris` is in the source alone, and the last images of the target have no mask.

    Args:
        root: an empty folder.
        right: method -> share of the target's cells that it gets right.
        task: segmentation or change.
        target_masks: whether there are any of the target.
    """
    rng, right = np.random.default_rng(0), right or RIGHT
    names = (
        "params.yaml",
        "manifest.parquet",
        "labels_target.parquet",
        "labels_measure.parquet",
        "labels_train.parquet",
    )
    paths = [
        root / name
        for name in (*names, "masks_target", "prepared", "features", "train", "audit.json", "quarantine.json")
    ]
    files = ScenarioFiles(root, *paths)
    splits = [*SPLITS[0], *SPLITS[1]]
    domain = np.repeat(["line_a", "line_b"], [len(SPLITS[0]), len(SPLITS[1])])
    count = len(splits)
    ids = [f"{n:032x}" for n in range(count)]
    facts = {"sha256": [f"{n:064x}" for n in range(count)], "part": "", "height": SIDE, "width": SIDE, "channels": 3}
    facts |= {"dtype": "uint8", "file_bytes": 1000, "copies": 1, "group": [f"{n:016x}" for n in range(count)]}
    manifest = pd.DataFrame({"image_id": ids, "domain": domain, "split": splits, **facts})
    manifest["label"] = pd.array([None] * count, dtype="Int32")
    write_table(files.manifest, manifest, MANIFEST)
    empty = pd.DataFrame({"image_id": pd.Series(dtype=str), "label": pd.Series(dtype=int)})
    write_table(files.labels_target, empty, TARGET_LABELS)
    for given in (files.labels_measure, files.labels_train):
        write_table(given, empty, GIVEN_LABELS)
    masks = np.stack([_mask(rng, n, debris=where == "line_a") for n, where in enumerate(domain)])
    _write_prepared(files, manifest, masks, task, target_masks, rng)
    shares, _ = cell_shares(masks, GRID, GRID, len(CLASSES))
    for method, good in right.items():
        _write_method(files.trained / method, method, shares, np.where(domain == "line_b", good, 0.95), rng)
    pixels = {name: int((masks[domain == "line_a"] == k).sum()) for k, name in enumerate(CLASSES)}
    audit = {"images": {"line_a": 22, "line_b": 22}, "mask_pixels": {"line_a": pixels}}
    write_json(files.audit, audit | {"classes": {"line_a": {name: {} for name in CLASSES}}})
    write_json(files.quarantine, [])
    _write_params(files, list(right), task, target_masks)
    return files


def _mask(rng: np.random.Generator, number: int, debris: bool) -> np.ndarray:
    rows, columns = np.indices((SIDE, SIDE))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    top, left = rng.integers(8, 24, 2)
    mask[(rows - top) ** 2 + (columns - left) ** 2 < (5 + number % 4) ** 2] = 1
    if debris:
        mask[:6, 20:28] = 2
    mask[:, :2] = IGNORED
    return mask


def _write_prepared(
    files: ScenarioFiles,
    manifest: pd.DataFrame,
    masks: np.ndarray,
    task: str,
    target_masks: bool,
    rng: np.random.Generator,
) -> None:
    index = manifest[["image_id", "domain"]].copy()
    index["shard"] = np.where(index["domain"] == "line_a", "domain0-all", "domain1-all")
    index["row"] = index.groupby("shard").cumcount()
    for folder in (files.prepared / "shards", files.prepared / "masks", files.features, files.masks_target):
        folder.mkdir(parents=True)
    for shard, here in (("domain0-all", index["row"][:22]), ("domain1-all", index["row"][22:])):
        own = masks[here.index]
        shift = 0 if shard == "domain0-all" else 60
        later = np.repeat(
            (own == 1)[..., None] * 90 + rng.integers(0, 60, (len(own), SIDE, SIDE, 1)) + shift, 3, axis=3
        )
        earlier = rng.integers(0, 60, later.shape) + shift
        pixels = np.concatenate([earlier, later], axis=3) if task == "change" else later
        np.save(files.prepared / "shards" / f"{shard}.npy", pixels.astype(np.uint8))
        seen = rng.normal(shift / 60, 1, (len(own), GRID * GRID, 8)).astype(np.float16)
        np.save(files.features / f"{shard}.npy", seen)
        if shard == "domain0-all":
            np.save(files.prepared / "masks" / f"{shard}.npy", own)
        elif target_masks:
            own = own.copy()
            own[-2:] = IGNORED  # nobody drew these
            np.save(files.masks_target / f"{shard}.npy", own)
    write_table(files.prepared / "index.parquet", index, INDEX)
    both = {"line_a": [0.3] * 3, "line_b": [0.5] * 3}
    facts = {"classes": CLASSES, "channels": 3, "height": SIDE, "width": SIDE, "dtype": "uint8", "sources": 1}
    facts |= {"task": task, "preprocess": {}, "fitted": {"line_a": {}, "line_b": {}}, "mean": both, "std": both}
    write_json(files.prepared / "facts.json", facts | {"domains": list(both), "count": {}, "quarantine": []})


def _write_method(folder: Path, method: str, shares: np.ndarray, good: np.ndarray, rng: np.random.Generator) -> None:
    run = {"scenario": "demo", "method": method, "mode": "frozen", "needs": "features", "optimises": []}
    run |= {"sees_target": method != "source_only", "seeds": SEEDS, "epochs": [EPOCH], "classes": CLASSES}
    run |= {"cells": GRID * GRID, "domains": ["line_a", "line_b"]}
    write_json(folder / "run.json", run | {"config": {"method": {}, "model": {"epochs": EPOCH}, "train": {}}})
    for seed in SEEDS:
        epochs = folder / "seeds" / str(seed) / "epochs"
        epochs.mkdir(parents=True)
        line = {"loss_source": 0.1, "loss_total": 0.1, "learning_rate": 0.001, "source_val_accuracy": 0.9}
        lines = [line | {"epoch": e, "source_val_balanced_accuracy": 0.9} for e in range(1, EPOCH + 1)]
        (epochs.parent / "curves.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in lines))
        wrong = rng.random(shares.shape[:2]) > good[:, None]
        logits = np.where(wrong[..., None], np.roll(shares, 1, axis=2), shares) * 6
        logits = logits.reshape(-1, len(CLASSES)) + rng.normal(0, 0.2, (wrong.size, len(CLASSES)))
        np.save(epochs / f"{EPOCH:03d}.logits.npy", logits.astype(np.float32))
        np.save(epochs / f"{EPOCH:03d}.embeddings.npy", np.zeros((len(shares), 8), np.float16))
        save_file({"head.weight": np.zeros((3, 8), np.float32)}, epochs / f"{EPOCH:03d}.safetensors")


def _write_params(files: ScenarioFiles, methods: list[str], task: str, target_masks: bool) -> None:
    scenario = {"kind": "natural", "task": task, "raw": "data/raw/demo", "source": ["line_a"], "target": "line_b"}
    scenario |= {"target_labels": "table" if target_masks else "none", "classes": CLASSES, "model": "dense"}
    document = {
        "scenarios": {"demo": scenario},
        "models": {"dense": {"mode": "frozen", "backbone": {"name": "small_cnn"}}},
        "methods": {method: {} for method in methods},
        "seed": 0,
        "shift": {"max_images": 2000},
        "train": {"seeds": SEEDS, "batch_size": 64, "keep": 1},
        "select": {"average": ["mmd"], "validators": {"entropy": {}}},
        "evaluate": {"bootstrap": 100},
        "robustness": {"images": 0},
        "gates": {},
    }
    files.params.write_text(yaml.safe_dump(document, sort_keys=False))

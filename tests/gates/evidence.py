"""Evidence for the rules' tests, shaped as `evaluate`, `select` and `isthmus score` write it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from isthmus.gates import Evidence
from isthmus.gates.scored import SOURCE, TARGET, Answers, Scored

CLASSES = ["crack", "dent", "good"]
IMAGES = 120  # half of them of the source


def evidence(
    *, method: str = "coral", fallback: bool = False, mean: float = 0.7, shipped: float | None = None, classes: int = 3,
    gain: tuple[float, float, float] = (0.1, 0.05, 0.15), kept: float = 0.95, asked: Scored | None = None,
) -> Evidence:  # fmt: skip
    """Returns evidence with target labels; `gain` is mean, low and high of chosen minus source-only."""
    per_seed = [mean if shipped is None else shipped, mean, mean]
    scores: dict[str, Any] = {"balanced_accuracy": {"mean": mean, "per_seed": per_seed}}
    scores |= {"minus_source_only": dict(zip(("mean", "low", "high"), gain, strict=True))}
    truth = {"available": True, "classes": [str(k) for k in range(classes)], "methods": {method: scores}}
    choice = {"chosen": {"method": method, "epoch": 4, "seed": 0, "fallback": fallback}}
    return Evidence(metrics(kept), truth, choice, asked or scored())


def without_labels(*, method: str = "coral", fallback: bool = False) -> Evidence:
    """Returns evidence of a scenario whose target has no labels."""
    chosen = {"method": method, "epoch": 4, "seed": 0, "fallback": fallback}
    return Evidence(metrics(0.95), {"available": False}, {"chosen": chosen}, scored(target_labels=False))


def metrics(kept: float) -> dict[str, float]:
    """Returns `metrics.json` of a candidate that kept this much of the source [share]; source-only has 0.96."""
    return {"source_test_balanced_accuracy": kept, "source_only_source_test_balanced_accuracy": 0.96}


def answers(
    images: pd.DataFrame, right: float = 0.9, *, version: str = "2", confidence: float = 0.9, seconds: float = 0.05,
    classes: list[str] = CLASSES, seed: int = 0, **changed: Any,
) -> Answers:  # fmt: skip
    """Returns the answers of a model that is right on this share of every class in every role."""
    truth = (np.arange(len(images)) % len(CLASSES)).astype(int)
    wrong = np.random.default_rng(seed).permuted(np.arange(len(images)) // 6 % 10 >= round(right * 10))
    shown = [CLASSES[(k + 1) % 3 if miss else k] for k, miss in zip(truth, wrong, strict=True)]
    rest = (1 - confidence) / (len(classes) - 1)
    rows = [[confidence if name == given else rest for name in classes] for given in shown]
    latency = {"images": 20, "median_s": seconds, "p95_s": seconds * 1.2, "fastest_s": seconds * 0.9}
    outputs = {"class": "string"} | {f"probability_{name}": "double" for name in classes}
    made = Answers(
        f"m-{version}", version, "", True, classes, {"image": "binary"}, outputs, 5 * 2**20, latency,
        list(images["sha256"]), list(images["image_id"]), np.array(rows),
    )  # fmt: skip
    return replace(made, **changed)


def scored(
    *, candidate: dict[str, Any] | None = None, champion: dict[str, Any] | None = None, target_labels: bool = True,
    **changed: Any,
) -> Scored:  # fmt: skip
    """Returns what the models answered; `candidate` and `champion` hold arguments of `answers`."""
    ids = [f"{place:032x}" for place in range(IMAGES)]
    frame = pd.DataFrame({"image_id": ids, "sha256": [f"{place:064x}" for place in range(IMAGES)], "part": ""})
    frame["role"] = np.where(np.arange(IMAGES) < IMAGES // 2, SOURCE, TARGET)
    frame["domain"] = np.where(frame["role"] == SOURCE, "line_a", "line_b")
    frame["group"] = [f"{place // 4:016x}" for place in range(IMAGES)]
    truth = np.arange(IMAGES) % len(CLASSES)
    hidden = (frame["role"] == TARGET) & (not target_labels)
    frame["label"] = pd.array(np.where(hidden, None, truth), dtype="Int32")
    mine = answers(frame, **{"right": 0.9} | (candidate or {}))
    frame["predicted"] = mine.predicted(CLASSES)
    other = None if champion is None else answers(frame, **{"version": "1", "seed": 1} | champion)
    asked = {"choices": 1, "labelled": IMAGES // 2 if target_labels else 0, "runner_up_of": ""}
    local = {"place": "", "found": False, "missing": []}
    whole = Scored(
        frame, CLASSES, "md5", "md5", mine, other, asked, {"data": local, "snapshot": local}, {"candidate": 0}
    )  # fmt: skip
    return replace(whole, **changed)


def bad_scored() -> Scored:
    """Returns answers that every rule must refuse."""
    lost = {"place": "store", "found": False, "missing": ["data/raw/demo"]}
    made = scored(
        candidate={"right": 0.1, "confidence": 0.99, "seconds": 9.0, "bundled": False, "inputs": {"path": "string"}},
        champion={"right": 0.9}, current_md5="other", seen={"candidate": 3},
        acceptance={"choices": 2, "labelled": 60, "runner_up_of": "1"}, origin={"data": lost, "snapshot": lost},
    )  # fmt: skip
    return made

"""The append-only record of how often a labelled target sample was asked, about which choice, and what came of it."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from isthmus.core.errors import StoreError
from isthmus.core.files import read_json
from isthmus.evaluation.selection.choice import parts
from isthmus.gates.scored import TARGET, set_md5
from isthmus.registry.lineage.lineage import Lineage

FOLDER = Path(".isthmus") / "acceptance"


@dataclass(frozen=True)
class Choice:
    """What a sample is asked about.

    Attributes:
        key: md5 of the chosen weights with epoch and seed: the same choice has the same key.
        trained: md5 of the folder that the chosen epoch lies in; of the ensemble all that it is the mean of.
        pool: md5 of every trained method's folder that it was chosen from.
    """

    key: str
    trained: list[str]
    pool: list[str]


def choice_of(lineage: Lineage) -> Choice:
    """Reads the choice whose results are in `dvc.lock`."""
    made = read_json(lineage.path("select", "choice"))
    chosen = made["chosen"]
    pool = {method: lineage.md5_of(folder) for method, folder in lineage.trained().items()}
    trained = sorted({pool[part.method] for part in parts(made, chosen["method"])})
    what = f"{' '.join(trained)} {chosen['epoch']} {chosen['seed']}"
    key = hashlib.md5(what.encode(), usedforsecurity=False).hexdigest()
    return Choice(key, trained, sorted(pool.values()))


def ask(project: Path, scenario: str, images: pd.DataFrame, choice: Choice, version: str) -> dict[str, Any]:
    """Records that the labelled target images of the set are about to judge a choice; the same choice counts once.

    Returns:
        `choices`: how many different ones this sample has judged, this one included; `labelled`: its images;
        `runner_up_of`: version of a refused candidate of the same pool, empty where there is none. The labels must
        not be used then, and nothing is recorded.
    """
    sample = images[(images["role"] == TARGET) & images["label"].notna()]
    if not len(sample):
        return {"choices": 0, "labelled": 0, "runner_up_of": ""}
    lines, identity = _read(project, scenario), set_md5(sample)
    asked = [line for line in lines if line["event"] == "asked" and line["sample"] == identity]
    refused = {line["choice"] for line in lines if line["event"] == "refused"}
    before = [line for line in asked if line["choice"] in refused and line["choice"] != choice.key]
    rival = next((line["version"] for line in before if not {*choice.trained}.isdisjoint(line["pool"])), "")
    keys = {line["choice"] for line in asked} | ({choice.key} if not rival else set())
    if not rival and choice.key not in {line["choice"] for line in asked}:
        found = {"event": "asked", "sample": identity, "choice": choice.key, "pool": choice.pool, "version": version}
        _append(project, scenario, found)
    return {"choices": len(keys), "labelled": len(sample), "runner_up_of": rival}


def refuse(project: Path, scenario: str, choice: Choice) -> None:
    """Records that a choice which was asked about was refused; once is enough."""
    lines = _read(project, scenario)
    mine = {line["event"] for line in lines if line["choice"] == choice.key}
    if mine == {"asked"}:
        _append(project, scenario, {"event": "refused", "choice": choice.key})


def _path(project: Path, scenario: str) -> Path:
    return project / FOLDER / f"{scenario}.jsonl"


def _read(project: Path, scenario: str) -> list[dict[str, Any]]:
    path = _path(project, scenario)
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise StoreError(
            f"{path}: the record of evaluations on the labelled sample is damaged ({error}). Restore it, or bring a"
            " fresh sample"
        ) from None


def _append(project: Path, scenario: str, line: dict[str, Any]) -> None:
    path = _path(project, scenario)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line, sort_keys=True) + "\n")
        stream.flush()
        os.fsync(stream.fileno())

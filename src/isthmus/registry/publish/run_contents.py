"""What MLflow is told of a scenario, read from the stages' files: curves, final numbers, datasets, lineage."""

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isthmus.core.files import read_json, write_json
from isthmus.registry.lineage.lineage import REQUIREMENTS, Lineage
from isthmus.registry.publish.pictures import draw
from isthmus.registry.publish.records import Publication
from isthmus.registry.store.tracking import DatasetRecord, Point, Store

TABLES = ("curves", "leaderboard", "confusion", "reliability")  # flags of `report`


@dataclass(frozen=True)
class Shown:
    """What MLflow's pages show of a scenario's results.

    Attributes:
        choice: `choice.json`.
        card: `model_card.json`.
        scores: `scores.json`.
        score: name of the task's score.
        per_seed: method -> that score of each seed on the target's test split; empty without target labels.
    """

    choice: dict[str, Any]
    card: dict[str, Any]
    scores: dict[str, float]
    score: str
    per_seed: dict[str, list[float | None]]

    def target(self, method: str, place: int) -> float | None:
        """Returns the score of a method's seed, by the seed's place; None where it was not measured."""
        values = self.per_seed.get(method, [])
        return values[place] if place < len(values) else None


def read_shown(lineage: Lineage) -> Shown:
    """Reads it from the files of the stages."""
    card = read_json(lineage.path("report", "report") / "model_card.json")
    truth = read_json(lineage.path("evaluate", "truth"))
    rows = truth["methods"] if truth["available"] else {}
    return Shown(
        read_json(lineage.path("select", "choice")),
        card,
        read_json(lineage.path("report", "scores")),
        card["score"]["name"],
        {method: row[card["score"]["key"]]["per_seed"] for method, row in rows.items()},
    )


def log_results(record: Publication, lineage: Lineage, store: Store, run: str, shown: Shown) -> None:
    """Logs what holds for the scenario as a whole: choice, scores, pictures, datasets, report, lineage.

    Of the numbers the run has those of `scores.json` alone: MLflow's page and table show all that a run has, and two
    hundred hide the ten that are asked for. The others are in its files `metrics.json` and `truth.json`.
    """
    metrics, truth, choice = (
        lineage.path("evaluate", "metrics"), lineage.path("evaluate", "truth"), lineage.path("select", "choice")
    )  # fmt: skip
    chosen = read_json(choice)["chosen"]
    params = {f"chosen.{key}": str(value) for key, value in chosen.items()}
    classes: list[str] = read_json(lineage.path("prepare", "prepared") / "facts.json")["classes"]
    store.log(run, record.started, params, [])
    store.log_datasets(run, _datasets(lineage))
    report = lineage.path("report", "report")
    names = [
        metrics,
        truth,
        choice,
        lineage.path("report", "scores"),
        lineage.path("evaluate", "trust"),
        lineage.path("report", "params"),
        lineage.project / REQUIREMENTS,
    ]
    # which images a model saw, by their hashes: `isthmus trace` answers from these, wherever the project is
    names += [lineage.path("ingest", "manifest"), lineage.path("prepare", "prepared") / "index.parquet"]
    store.log_file(run, report, "report")
    for file in names:
        if file.exists():
            store.log_file(run, file)
    with tempfile.TemporaryDirectory() as folder:
        named = {f"class_{k}": name for k, name in enumerate(classes)}
        write_json(Path(folder) / "lineage.json", lineage_facts(record, lineage) | {"classes": named})
        store.log_file(run, Path(folder) / "lineage.json")
    with tempfile.TemporaryDirectory() as folder:
        draw({name: lineage.path("report", name) for name in TABLES}, shown.score, Path(folder))
        store.log_file(run, Path(folder), "plots")


def lineage_facts(record: Publication, lineage: Lineage) -> dict[str, Any]:
    """Returns all that a model's origin can be rebuilt from, as JSON types."""
    return {
        "scenario": record.scenario,
        "git_commit": record.commit,
        "snapshot": record.snapshot,
        "lock_key": record.key,
        "lock_entries": lineage.entries,
        "raw": {"path": lineage.raw[0], "md5": lineage.raw[1]},
        "params_md5": lineage.params_md5,
        "requirements_sha256": lineage.requirements_sha256,
    }


def _datasets(lineage: Lineage) -> list[DatasetRecord]:
    prepared = lineage.path("prepare", "prepared")
    facts = read_json(prepared / "facts.json")
    raw, digest = lineage.raw
    domains: list[str] = facts["domains"]
    found = [
        DatasetRecord(
            f"{lineage.scenario}/{domain}", digest, raw, {"images": facts["count"][domain]},
            "source" if place < facts["sources"] else "target",
        )
        for place, domain in enumerate(domains)
    ]  # fmt: skip
    place = prepared.relative_to(lineage.project).as_posix()
    profile = {"images": sum(facts["count"].values()), "classes": facts["classes"]}
    return [*found, DatasetRecord(f"{lineage.scenario}/prepared", lineage.md5_of(prepared), place, profile, "prepared")]


def curves(path: Path) -> list[Point]:
    """Returns every number of every epoch; an epoch with a null (a loss that was NaN) has a gap there."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Point(key, value, line["epoch"]) for line in lines for key, value in numbers(line).items() if key != "epoch"
    ]


def numbered(values: Any, classes: Sequence[str]) -> Any:
    """Returns a tree whose mappings by class are by `class_<number>`: MLflow's keys take few signs, and a class any.

    `classes` in the run's `lineage.json` says which number is which.

    >>> numbered({"R&D": 1, "50% worn": 2}, ["R&D", "50% worn", "good"])
    {'class_0': 1, 'class_1': 2}
    """
    if not isinstance(values, dict):
        return values
    by_class = bool(values) and set(values) <= set(classes)
    return {
        f"class_{classes.index(key)}" if by_class else key: numbered(value, classes) for key, value in values.items()
    }


def flat(values: dict[str, Any], before: str = "") -> dict[str, str]:
    """Returns nested options as dotted keys with text values.

    >>> flat({"model": {"epochs": 4}, "seeds": [0, 1]})
    {'model.epochs': '4', 'seeds': '[0, 1]'}
    """
    found: dict[str, str] = {}
    for key, value in values.items():
        found |= flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": str(value)}
    return found


def numbers(values: dict[str, Any], before: str = "") -> dict[str, float]:
    """Returns the finite numbers of nested mappings as dotted keys; lists and per-class scores stay in their files.

    >>> numbers({"count": 3, "dann": {"mean": 0.5, "per_seed": [0.5]}, "gap": None, "available": True})
    {'count': 3.0, 'dann.mean': 0.5}
    """
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, dict) and key != "per_class":
            found |= numbers(value, f"{before}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[f"{before}{key}"] = float(value)
    return found

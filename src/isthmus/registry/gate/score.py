"""Scores candidate and champion on the frozen evaluation set, each in its own process, and writes the evidence."""

import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from isthmus.core.errors import DataError, StoreError
from isthmus.core.files import atomic_file, read_json, sha256_file, write_json
from isthmus.core.process.children import run_child
from isthmus.core.progress import log
from isthmus.data.manifest import COMPANIONS, LOCATIONS, read_table, write_table
from isthmus.gates.judge import needs_answers
from isthmus.gates.scored import BOX_EVALUATION, EVALUATION, MASK_EVALUATION, NO_LABELS, TARGET, evaluation_set, set_md5
from isthmus.registry.gate import evaluation_log
from isthmus.registry.gate.answered_boxes import AnsweredBoxes, answered_boxes
from isthmus.registry.gate.answered_masks import AnsweredMasks, answered_masks
from isthmus.registry.lineage.lineage import Lineage
from isthmus.registry.lineage.retrievable import origin
from isthmus.registry.publish.packaging import scenario_of
from isthmus.registry.publish.publish import CHAMPION, Published, find_published
from isthmus.registry.store.locks import exclusive
from isthmus.registry.store.tracking import Store
from isthmus.registry.trace.trace import seen_by

FOLDER = Path(".isthmus") / "evidence"
EVIDENCE = "isthmus.evidence"  # tag of a version: sha256 of the evidence.json that it was scored with
TIMED = 20  # images timed one by one
_SCORER = Path(__file__).with_name("scorer.py")
_EMPTY = {"bundled": False, "classes": [], "inputs": {}, "outputs": {}, "size_bytes": 0, "latency": {}}


@dataclass(frozen=True)
class ScoredModels:
    """Where the evidence lies and what it rests on, for a person."""

    folder: Path
    candidate: str
    champion: str | None
    set_md5: str
    images: int
    acceptance: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Returns all of it as JSON types."""
        return asdict(self) | {"folder": str(self.folder)}

    def lines(self) -> list[str]:
        """Returns what was scored, tier by tier."""
        asked = self.acceptance
        sample = f"{asked['labelled']} labelled target images, choice number {asked['choices']} evaluated on them"
        if asked["runner_up_of"]:
            sample = f"not evaluated: runner-up of version {asked['runner_up_of']}, which was refused"
        elif not asked["labelled"]:
            sample = f"{NO_LABELS[TARGET]}: a person will have to decide"
        return [
            f"version {self.candidate} against {f'champion {self.champion}' if self.champion else 'no champion yet'}",
            f"evaluation set {self.set_md5}, {self.images} images",
            "tier a: source test",
            f"tier b: {sample}",
            "tier c: label-free estimates (metrics.json)",
            f"evidence: {self.folder}",
        ]


def score(project: Path, scenario: str) -> ScoredModels:
    """Scores the published results of a scenario; what was asked before is not asked again.

    Raises:
        StoreError: the results are stale or were not published.
        DataError: a raw image is gone or was changed since the results were made.
    """
    lineage, published, store = find_published(project, scenario)
    folder = evidence_folder(lineage.project, published.model_id)
    with exclusive(lineage.project / FOLDER / f"{scenario}.lock", f"scoring {scenario}"):
        images = current_set(lineage)
        champion = store.aliases(published.model).get(CHAMPION)
        asked = evaluation_log.ask(
            lineage.project, scenario, images, evaluation_log.choice_of(lineage), published.version
        )  # fmt: skip
        identity = set_md5(images)
        versions = {"candidate": published.version} | ({"champion": champion} if champion else {})
        job = _job(lineage, images, store)
        truth = answered_boxes(lineage, images) or answered_masks(lineage, images)
        for who, version in versions.items():
            _ask(store, published.model, version, folder / who, job, identity, truth)
        if asked["runner_up_of"]:  # what may not be asked is not written down either
            images = images.assign(label=images["label"].mask(images["role"] == TARGET))
        write_table(folder / "evaluation.parquet", images, _schema_of(images))
        _write_facts(folder, versions, lineage, published, store, images, identity, asked)
    return ScoredModels(folder, published.version, champion, identity, len(images), asked)


def score_if_needed(project: Path, scenario: str) -> ScoredModels | None:
    """Scores where a rule named under `gates:` reads the models' answers; None where none does."""
    return score(project, scenario) if needs_answers(project / "params.yaml") else None


def evidence_folder(project: Path, model_id: str) -> Path:
    """Returns where the evidence about a candidate lies."""
    return project / FOLDER / model_id


def current_set(lineage: Lineage) -> pd.DataFrame:
    """Returns the evaluation set of the results in `dvc.lock`."""
    scenario = scenario_of(lineage)
    answers = scenario.annotation_config()
    companions = lineage.path("ingest", "companions") if answers.cells else None
    predictions = lineage.path("evaluate", "predictions")
    return evaluation_set(lineage.path("ingest", "manifest"), predictions, scenario.target, companions, answers.boxes)


def _schema_of(images: pd.DataFrame) -> pa.Schema:
    return next(s for s in (EVALUATION, MASK_EVALUATION, BOX_EVALUATION) if list(images) == s.names)


def _job(lineage: Lineage, images: pd.DataFrame, store: Store) -> dict[str, Any]:
    """Returns what the scorer is told."""
    files = [
        [str(path.resolve()), part, domain]
        for path, part, domain in zip(raw_files(lineage, images), images["part"], images["domain"], strict=True)
    ]
    if scenario_of(lineage).annotation_config().second:
        beside = read_table(lineage.path("ingest", "companions"), COMPANIONS).set_index("image_id")
        beside = beside.loc[images["image_id"]]
        later = _checked(lineage, beside["second"], beside["second_sha256"], images["image_id"])
        files = [[*file, str(second.resolve())] for file, second in zip(files, later, strict=True)]
    return {"tracking_uri": store.uri, "files": files, "ids": list(images["image_id"]), "timed": TIMED}


def raw_files(lineage: Lineage, images: pd.DataFrame) -> list[Path]:
    """Returns the raw file of each image of an evaluation set.

    Raises:
        DataError: a file is missing, or no longer that of the manifest.
    """
    places = read_table(lineage.path("ingest", "locations"), LOCATIONS).set_index("image_id")["path"]
    return _checked(lineage, places.loc[images["image_id"]], images["sha256"], images["image_id"])


def _checked(lineage: Lineage, places: Iterable[str], sha256: Iterable[str], ids: Iterable[str]) -> list[Path]:
    raw = lineage.project / lineage.raw[0]
    paths = [raw / place for place in places]
    there = {path: sha256_file(path) for path in set(paths) if path.is_file()}  # a scene once for all of its tiles
    wrong = [name for path, wanted, name in zip(paths, sha256, ids, strict=True) if there.get(path) != wanted]
    if wrong:
        raise DataError(
            f"{raw}: {len(wrong)} of {len(paths)} raw images are missing or changed (first: image {wrong[0]})."
            f" Restore them with 'dvc checkout', or run 'dvc repro report@{lineage.scenario}' and publish again"
        )
    return paths


def _ask(
    store: Store,
    model: str,
    version: str,
    out: Path,
    job: dict[str, Any],
    identity: str,
    truth: AnsweredMasks | AnsweredBoxes | None,
) -> None:
    """Writes `<out>.json` and `<out>.parquet`, unless this very model was asked about this very set."""
    model_id = store.model_of(model, version) or ""
    asked = out.with_suffix(".asked.json")
    key = {"model_id": model_id, "set_md5": identity} | ({} if truth is None else {"classes": truth.classes})
    facts_file, rows_file = out.with_suffix(".json"), out.with_suffix(".parquet")
    if asked.exists() and read_json(asked) == key and facts_file.exists() and rows_file.exists():
        return
    for stale in (asked, facts_file, rows_file):
        stale.unlink(missing_ok=True)
    log(f"score: version {version} of {model} predicts {len(job['files'])} images")
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        more = {"model": f"models:/{model_id}", "out": str(place / "answers"), "name": f"score version {version}"}
        facts = run_scorer(job | more, place)
        facts["failure"] = facts["failure"] or _other_task(facts["outputs"], truth)
        if not facts["failure"]:
            if truth is not None:
                truth.count(place / "answers.parquet", facts["classes"])
            with atomic_file(rows_file) as partial:
                partial.write_bytes((place / "answers.parquet").read_bytes())
    write_json(facts_file, facts | {"model_id": model_id, "version": version})
    if not facts["failure"]:
        write_json(asked, key)


def _other_task(outputs: dict[str, str], truth: AnsweredMasks | AnsweredBoxes | None) -> str:
    """Returns why answers cannot be compared, empty where they can: a scenario's task may have been another before."""
    wanted = "probability_" if truth is None else truth.column
    if any(name.startswith(wanted) for name in outputs):
        return ""
    return f"it is of another task: it answers {', '.join(sorted(outputs))}, and no '{wanted}'"


def run_scorer(job: dict[str, Any], place: Path) -> dict[str, Any]:
    """Runs the scorer in a bare process and returns what it found, with `failure` where it failed."""
    (place / "job.json").write_text(json.dumps(job), encoding="utf-8")
    command = [sys.executable, "-I", str(_SCORER), str(place / "job.json")]
    done = run_child(command, place, progress=True)
    if done.status:
        last = (done.err.strip().splitlines() or [f"exit status {done.status}"])[-1]
        return _EMPTY | {"failure": last[:400]}
    facts: dict[str, Any] = read_json(place / "answers.json")
    return facts | {"failure": ""}


def _write_facts(
    folder: Path, versions: dict[str, str], lineage: Lineage, published: Published, store: Store, images: pd.DataFrame,
    identity: str, asked: dict[str, Any],
) -> None:  # fmt: skip
    if "champion" not in versions:
        for old in folder.glob("champion.*"):
            old.unlink()
    names = ["evaluation.parquet", *(f"{who}{end}" for who in versions for end in (".json", ".parquet"))]
    files = {name: sha256_file(folder / name) for name in names if (folder / name).exists()}
    ids = set(images["sha256"])
    metric = next((name for name in ("mean_iou", "ap50") if name in images), None)
    facts = {
        "candidate": versions["candidate"], "champion": versions.get("champion"), "set_md5": identity,
        "classes": scenario_of(lineage).classes, "acceptance": asked, "files": files,
        **({"metric": metric} if metric else {}),
        "origin": origin(lineage, published.snapshot),
        "seen": {who: seen_by(store, published.model, version, ids) for who, version in versions.items()},
    }  # fmt: skip
    write_json(folder / "evidence.json", facts)
    # the gate takes no other evidence about this version than what was written down here
    sha256 = sha256_file(folder / "evidence.json")
    store.tag_version(published.model, published.version, {EVIDENCE: sha256})


def check_unchanged(folder: Path, scenario: str, tags: dict[str, str]) -> None:
    """Checks that the evidence is what `score` wrote down; it bears the hashes of all files that it rests on.

    Raises:
        StoreError: it was changed since.
    """
    path = folder / "evidence.json"
    if tags.get(EVIDENCE) != sha256_file(path):
        raise StoreError(
            f"{path}: differs from what 'isthmus score' wrote, whose hash the registry has."
            f" Run 'isthmus score {scenario}' again"
        )


def check_champion(folder: Path, scenario: str, champion: str | None) -> None:
    """Checks that the evidence is there and compares with the champion of now.

    Raises:
        StoreError: it is missing or compares with another one.
    """
    path = folder / "evidence.json"
    if not path.exists():
        raise StoreError(f"{path}: no such file: the models were not scored. Run 'isthmus score {scenario}'")
    compared = read_json(path)["champion"]
    if compared != champion:
        raise StoreError(
            f"{path}: compares with champion {compared or 'none'}, but the champion is now {champion or 'none'}."
            f" Run 'isthmus score {scenario}' again"
        )

"""Feeds MLflow from the stages' files, after they are done: runs, curves, datasets, and the model with its lineage."""

import re
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from isthmus.core.errors import StoreError
from isthmus.core.files import read_json
from isthmus.core.progress import log, track
from isthmus.data.names import PRIVATE_KINDS
from isthmus.registry.lineage.git_remote import keep_snapshot
from isthmus.registry.lineage.lineage import Lineage, read_lineage
from isthmus.registry.lineage.snapshot import take_snapshot
from isthmus.registry.publish.descriptions import (
    NOTE,
    method_note,
    model_note,
    run_name,
    run_note,
    verdict_lines,
    version_note,
)
from isthmus.registry.publish.packaging import scenario_of, write_model
from isthmus.registry.publish.records import Publication, find_record, record_path
from isthmus.registry.publish.run_contents import Shown, curves, flat, log_results, numbered, read_shown
from isthmus.registry.store.locks import exclusive
from isthmus.registry.store.store_file import NoStoreError
from isthmus.registry.store.stores import open_store
from isthmus.registry.store.tracking import PART, PUBLICATION, Point, Store

PARENT = "scenario"
CANDIDATE = "candidate"
CHAMPION = "champion"
TRAINING = "?workflowType=machine_learning"  # else a new browser begins with MLflow's pages for language models


@dataclass(frozen=True)
class Published:
    """Where a scenario's results are in MLflow.

    Attributes:
        scenario: its name.
        model: registered name.
        version: number in the registry.
        model_id: address it by `models:/<model_id>`.
        run: id of the parent run.
        tracking_uri: the store.
        experiment: MLflow's id of it.
        key: of the lock entries.
        snapshot: commit of the tree that ran.
        report: the folder of the report, from the project's root.
        new: False when these very results were published before.
        verdict: what the report says, with its numbers, as Markdown; empty where it was not asked for.
    """

    scenario: str
    model: str
    version: str
    model_id: str
    run: str
    tracking_uri: str
    experiment: str
    key: str
    snapshot: str
    report: str
    new: bool
    verdict: str = ""

    def places(self) -> list[str]:
        """Returns where a person finds the report, the model and MLflow's page, one line each."""
        page = f"{self.server()}/#/models/{self.model}/versions/{self.version}{TRAINING}"
        seen = page if self.tracking_uri.startswith("http") else f"isthmus ui, then {page}"
        return [
            f"report: {self.report}/report.html",
            f"model:  {self.model} version {self.version} ({'new' if self.new else 'as before'}), alias candidate",
            f"MLflow: {seen}",
        ]

    def as_json(self) -> dict[str, Any]:
        """Returns what a program may need as JSON types; not the store's address, which may hold a password."""
        return {name: value for name, value in asdict(self).items() if name not in ("tracking_uri", "verdict")}

    def server(self) -> str:
        """Returns where MLflow's pages are, or will be when `isthmus ui` has started them."""
        if not self.tracking_uri.startswith("http"):
            return "http://127.0.0.1:5000"  # never the address of a database, which may hold a password
        return re.sub(r"(?<=//)[^/@]*@", "", self.tracking_uri.rstrip("/"))

    def note(self) -> str:
        """Returns the verdict, and links to the report, the model and the run, as Markdown."""
        server, run = self.server(), f"{self.experiment}/runs/{self.run}"
        links = [
            f"- report: `{self.report}/report.html`, and [among the run's files]"
            f"({server}/#/experiments/{run}/artifacts/report/report.html{TRAINING})",
            f"- model: [{self.model} version {self.version}]"
            f"({server}/#/models/{self.model}/versions/{self.version}{TRAINING})",
            f"- run: [{self.scenario}]({server}/#/experiments/{run}{TRAINING})",
        ]
        start = "" if self.tracking_uri.startswith("http") else "\n`isthmus ui` starts the pages that these links name."
        return "\n".join([self.verdict, "", *links, start])


def publish(project: Path, scenario: str, flow_run_id: str | None = None) -> Published:
    """Publishes the scenario's results; those that were published before are not logged again.

    Args:
        project: its root, with `dvc.lock`.
        scenario: a name under `scenarios:`.
        flow_run_id: of the Prefect flow that ran it.

    Raises:
        StoreError: the results are missing or stale, git has no commit, or the store does not answer.
    """
    return publish_lineage(read_lineage(project, scenario), flow_run_id)


def publish_lineage(lineage: Lineage, flow_run_id: str | None = None) -> Published:
    """Publishes the results that a lineage describes, as `publish` does."""
    scenario = lineage.scenario
    store = open_store(lineage.project, make=True)
    path = record_path(lineage.project, lineage.key, store.uri)
    shown = read_shown(lineage)
    with exclusive(path.parent / f"{scenario}.lock", f"publishing {scenario}"):
        record = _found(lineage, store)
        new = record is None or not record.version
        if record is None or not record.version:
            record = _begun(record, lineage, store, path)
            _publish_runs(record, lineage, store, path, flow_run_id, shown)
            _publish_model(record, lineage, store, path, shown)
        if store.aliases(model_name(scenario)).get(CANDIDATE) != record.version:
            store.set_alias(model_name(scenario), CANDIDATE, record.version)
    verdict = "\n".join(verdict_lines(shown.card, shown.scores, shown.score))
    return replace(_published(record, lineage, store, new), verdict=verdict)


def find_published(project: Path, scenario: str) -> tuple[Lineage, Published, Store]:
    """Returns what was published of the results as they are now in `dvc.lock`.

    Raises:
        StoreError: these results were not published to this store.
    """
    lineage = read_lineage(project, scenario)
    try:
        store = open_store(lineage.project)
    except NoStoreError as error:
        raise StoreError(
            f"{scenario}: its results are not in {error.place}. Run 'isthmus publish {scenario}'"
        ) from None
    record = _found(lineage, store)
    if record is None or not record.version:
        raise StoreError(f"{scenario}: its results are not in {store.place}. Run 'isthmus publish {scenario}'")
    store.check_artifacts()
    return lineage, _published(record, lineage, store, new=False), store


def model_name(scenario: str) -> str:
    """Returns the name that the scenario's models are registered under."""
    return f"isthmus-{scenario}"


def scenario_name(model: str) -> str:
    """Returns the scenario whose models are registered under a name.

    >>> scenario_name(model_name("steel"))
    'steel'
    """
    return model.removeprefix("isthmus-")


def _published(record: Publication, lineage: Lineage, store: Store, new: bool) -> Published:
    return Published(
        record.scenario, model_name(record.scenario), record.version, record.model_id, record.runs[PARENT],
        store.uri, record.experiment, record.key, record.snapshot,
        lineage.flag(f"report@{record.scenario}", "report"), new,
    )  # fmt: skip


def _found(lineage: Lineage, store: Store) -> Publication | None:
    """Returns the record if the store still has what it names: a store that was deleted is filled again."""

    def is_there(record: Publication) -> bool:
        if not all(store.has_run(run) for name, run in record.runs.items() if name == PARENT):
            return False
        return not record.version or store.model_of(model_name(record.scenario), record.version) == record.model_id

    return find_record(lineage.project, lineage.key, store.uri, is_there)


def _begun(record: Publication | None, lineage: Lineage, store: Store, path: Path) -> Publication:
    if record is not None:
        log(f"publish {lineage.scenario}: resuming an interrupted publication")
        # Killed between making a run and writing it down: the run bears our tag.
        record.runs = store.runs_of(record.experiment, _tag(record)) | record.runs
        return record
    log(f"publish {lineage.scenario}: keeping settings and code as a snapshot")
    taken = take_snapshot(lineage.project)
    private = scenario_of(lineage).kind in PRIVATE_KINDS
    for line in taken.news(names=not private):
        log(line)
    keep_snapshot(lineage.project, taken.snapshot)
    experiment = store.experiment(model_name(lineage.scenario))
    started = time.time_ns() // 1_000_000
    record = Publication(
        lineage.scenario, store.place, lineage.key, experiment, started, taken.commit, taken.snapshot
    )  # fmt: skip
    record.save(path)
    return record


def _tag(record: Publication) -> str:
    # With the time: runs of a publication whose record was deleted stay theirs.
    return f"{record.key}-{record.started}"


def _publish_runs(
    record: Publication, lineage: Lineage, store: Store, path: Path, flow_run_id: str | None, shown: Shown
) -> None:
    tags = {
        PUBLICATION: _tag(record),
        "isthmus.scenario": record.scenario,
        "isthmus.lock_key": record.key,
        "isthmus.git_commit": record.commit,
        "isthmus.snapshot": record.snapshot,
        "isthmus.raw_md5": lineage.raw[1],
        "isthmus.params_md5": lineage.params_md5,
        "isthmus.requirements_sha256": lineage.requirements_sha256,
    }
    tags |= {"isthmus.flow_run_id": flow_run_id} if flow_run_id else {}
    note = {NOTE: run_note(record.scenario, shown.card, shown.scores, shown.score)}
    about = {"isthmus.verdict": shown.card["verdict"]["label"]} | _about(lineage)
    parent = _run(record, store, path, PARENT, run_name(record.scenario, shown.choice), tags | about | note, None)
    jobs = [
        (m, folder, seed) for m, folder in lineage.trained().items() for seed in read_json(folder / "run.json")["seeds"]
    ]
    for method, folder, seed in track(jobs, f"publish {record.scenario}", len(jobs), "run"):
        part = f"{method}/{seed}"
        if part in record.finished:
            continue
        told = read_json(folder / "run.json")
        score = shown.target(method, told["seeds"].index(seed))
        note = {"isthmus.method": method, NOTE: method_note(method, seed, shown.score, score)}
        run = _run(record, store, path, part, f"{method}-seed{seed}", tags | note, parent)
        params = flat(numbered(told["config"], told["classes"])) | {"method": method, "seed": str(seed)}
        points = [] if score is None else [Point("target", score, 0)]
        points += curves(folder / "seeds" / str(seed) / "curves.jsonl")
        store.log(run, record.started, params, points)
        store.end_run(run)
        _done(record, path, part)
    if PARENT not in record.finished:
        log(f"publish {record.scenario}: logging numbers, plots and report")
        log_results(record, lineage, store, parent, shown)
        _done(record, path, PARENT)


def _run(
    record: Publication, store: Store, path: Path, part: str, name: str, tags: dict[str, str], parent: str | None
) -> str:
    if part not in record.runs:
        record.runs[part] = store.start_run(record.experiment, name, record.started, tags | {PART: part}, parent)
        record.save(path)
    return record.runs[part]


def _done(record: Publication, path: Path, part: str) -> None:
    record.finished.append(part)
    record.save(path)


def _about(lineage: Lineage) -> dict[str, str]:
    scenario = scenario_of(lineage)
    facts = {"task": scenario.task, "kind": scenario.kind, "source": ", ".join(scenario.source)}
    return {f"isthmus.{key}": value for key, value in (facts | {"target": scenario.target}).items()}


def _publish_model(record: Publication, lineage: Lineage, store: Store, path: Path, shown: Shown) -> None:
    run, name = record.runs[PARENT], model_name(record.scenario)
    tags = {"isthmus.snapshot": record.snapshot, "isthmus.lock_key": record.key}
    note = version_note(name, shown.card, shown.scores, shown.score)
    if not record.model_id:
        record.model_id = store.create_model(record.experiment, run, name, tags | {NOTE: note})
        record.save(path)
    # of run and model, so that both pages show them
    points = [Point(key, value, 0) for key, value in shown.scores.items()]
    store.log(run, record.started, {}, points, record.model_id)
    if not store.model_is_ready(record.model_id):
        log(f"publish {record.scenario}: writing the model")
        write_model(record, lineage, store, run)
    store.end_run(run)
    tags |= {"isthmus.verdict": shown.card["verdict"]["label"]}
    record.version = store.register(name, record.model_id, run, tags, note)
    store.describe_model(name, model_note(name, shown.card), _about(lineage))
    record.save(path)

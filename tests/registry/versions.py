"""Registered versions without files and decisions about them: what promotion looks at, made in milliseconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from sqlalchemy import URL, Connection, create_engine, make_url
from sqlalchemy.pool import NullPool

from isthmus.core.files import write_json
from isthmus.gates.judge import judge
from isthmus.registry.gate.decision import Decision, write_decision
from isthmus.registry.ledger.ledger import ledger_address
from isthmus.registry.promotion.retention import SNAPSHOT
from isthmus.registry.publish.publish import CANDIDATE, model_name
from isthmus.registry.store.stores import open_store
from tests.registry.project_files import git

MODEL = model_name("demo")
Verdict = Literal["yes", "no", "person"]


_SCORES = {"yes": 0.9, "no": 0.1}


def add_version(project: Path, verdict: Verdict = "yes") -> str:
    """Registers an empty model and makes it the candidate; its run has results of which the gate says the verdict."""
    store = open_store(project)
    experiment = store.experiment(MODEL)
    run = store.start_run(experiment, "test", 1000, {})
    for name, values in _results(verdict).items():
        write_json(project / ".isthmus" / f"{name}.json", values)
        store.log_file(run, project / ".isthmus" / f"{name}.json")
    snapshot = git(project, "rev-parse", "HEAD")
    version = store.register(MODEL, store.create_model(experiment, run, MODEL, {}), run, {SNAPSHOT: snapshot})
    store.set_alias(MODEL, CANDIDATE, version)
    return version


def decide(project: Path, version: str, expected: str | None) -> Decision:
    """Writes a decision on a version's results as `gate` would."""
    store = open_store(project)
    run = store.run_of(MODEL, version) or ""
    with TemporaryDirectory() as folder:
        files = {name: store.fetch_file(run, f"{name}.json", Path(folder)) for name in ("metrics", "truth", "choice")}
        found = judge(project / "params.yaml", **files)
    decision = Decision(
        "demo", MODEL, version, store.model_of(MODEL, version) or "", "key", expected,
        None if expected is None else store.model_of(MODEL, expected),
        found.verdict, found.reasons, found.rules, found.evidence,
    )  # fmt: skip
    write_decision(project, store, decision)
    return decision


def _results(verdict: Verdict) -> dict[str, Any]:
    truth: dict[str, Any] = {"available": False}
    if verdict != "person":
        score = {"mean": _SCORES[verdict], "per_seed": [_SCORES[verdict]]}
        gain = {"mean": 0.1, "low": 0.1, "high": 0.1}
        methods = {"coral": {"balanced_accuracy": score, "minus_source_only": gain}}
        truth = {"available": True, "classes": ["crack", "good"], "methods": methods}
    return {"metrics": {}, "truth": truth, "choice": {"chosen": {"method": "coral", "fallback": False}}}


@contextmanager
def ledger_connection(project: Path) -> Iterator[Connection]:
    """Opens the record as anybody with its address could, past our own code."""
    address = ledger_address(open_store(project))
    postgres = isinstance(address, str)
    url = make_url(address) if postgres else URL.create("sqlite", database=str(address))
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        if postgres:
            connection.exec_driver_sql("SET search_path TO isthmus")
        yield connection


def record(project: Path) -> list[Any]:
    """Returns (id, action, old champion, new champion, outcome) of every promotion, in order."""
    columns = "id, action, old_champion, new_champion, outcome"
    query = f"SELECT {columns} FROM intents LEFT JOIN outcomes ON intent = id ORDER BY id"
    with ledger_connection(project) as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def aliases(project: Path) -> dict[str, str]:
    """Returns all aliases but the candidate's."""
    return {k: v for k, v in open_store(project).aliases(MODEL).items() if k != CANDIDATE}

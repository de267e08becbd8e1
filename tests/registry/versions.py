"""Registered versions without files and decisions about them: what promotion looks at, made in milliseconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, Connection, create_engine, make_url
from sqlalchemy.pool import NullPool

from isthmus.core.files import write_json
from isthmus.registry.decision import Decision, decision_path
from isthmus.registry.ledger import ledger_address
from isthmus.registry.protection import SNAPSHOT
from isthmus.registry.publish import CANDIDATE, model_name
from isthmus.registry.stores import open_store
from tests.registry.project_files import git

MODEL = model_name("demo")


def add_version(project: Path) -> str:
    """Registers an empty model and makes it the candidate; returns its number."""
    store = open_store(project)
    experiment = store.experiment(MODEL)
    run = store.start_run(experiment, "test", 1000, {})
    snapshot = git(project, "rev-parse", "HEAD")
    version = store.register(MODEL, store.create_model(experiment, run, MODEL, {}), run, {SNAPSHOT: snapshot})
    store.set_alias(MODEL, CANDIDATE, version)
    return version


def decide(
    project: Path, version: str, expected: str | None, verdict: Literal["yes", "no", "person"] = "yes"
) -> Decision:
    """Writes a decision as `gate` would."""
    model_id = open_store(project).model_of(MODEL, version) or ""
    word = {"yes": "pass", "no": "refuse", "person": "person"}[verdict]
    reason: dict[str, Any] = {"rule": "absolute_floor", "verdict": word, "number": 0.1, "threshold": 0.3}
    reasons = [reason | {"text": f"the finding that means {verdict}"}]
    decision = Decision("demo", MODEL, version, model_id, "key", expected, verdict, reasons, {}, {})
    write_json(decision_path(project, model_id), asdict(decision))
    return decision


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

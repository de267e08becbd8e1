"""The record of promotions in an SQLite file, and its lock in a file beside it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, create_engine, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from isthmus.core.errors import StoreError
from isthmus.registry.store.locks import exclusive

_TABLES = [
    """CREATE TABLE IF NOT EXISTS intents (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, action TEXT NOT NULL, model TEXT NOT NULL,
    old_champion TEXT, old_previous TEXT, new_champion TEXT NOT NULL, new_previous TEXT,
    decision TEXT NOT NULL, approved_by TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS outcomes (
    intent INTEGER PRIMARY KEY REFERENCES intents(id), at TEXT NOT NULL, outcome TEXT NOT NULL)""",
    *(
        f"CREATE TRIGGER IF NOT EXISTS no_{verb.lower()}_{table} BEFORE {verb} ON {table}"
        " BEGIN SELECT RAISE(ABORT, 'the record of promotions is append-only'); END"
        for table in ("intents", "outcomes")
        for verb in ("UPDATE", "DELETE")
    ),
    # INSERT OR REPLACE deletes without a trigger's knowing, unless each connection asks for it
    *(
        f"CREATE TRIGGER IF NOT EXISTS no_replace_{table} BEFORE INSERT ON {table}"  # noqa: S608 - names of ours
        f" WHEN NEW.{key} IN (SELECT {key} FROM {table})"
        " BEGIN SELECT RAISE(ABORT, 'the record of promotions is append-only'); END"
        for table, key in (("intents", "id"), ("outcomes", "intent"))
    ),
    # a number below one would stand for "no number given" in the trigger above, and stop all that come after
    "CREATE TRIGGER IF NOT EXISTS numbers_of_intents AFTER INSERT ON intents WHEN NEW.id < 1"
    " BEGIN SELECT RAISE(ABORT, 'the record of promotions is append-only'); END",
]


@contextmanager
def locked_file(path: Path) -> Iterator[Connection]:
    """Yields a connection to the record, its tables made, while all other promoters wait.

    Raises:
        StoreError: another promoter holds the lock for too long, or the file is no such record.
    """
    # The lock is a file of its own: an open write transaction on the record itself would keep an intent from
    # reaching the disk before the aliases move.
    with exclusive(path.with_name(f"{path.stem}-lock.db"), "promotion"):
        engine = create_engine(
            URL.create("sqlite", database=str(path)), isolation_level="AUTOCOMMIT", poolclass=NullPool
        )
        with _usable(path), engine.connect() as connection:
            for statement in ["PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", *_TABLES]:
                connection.exec_driver_sql(statement)
            yield connection


@contextmanager
def reading_file(path: Path) -> Iterator[Connection | None]:
    """Yields a connection that changes nothing, None where there is no record.

    Raises:
        StoreError: the file is no such record.
    """
    if not path.exists():
        yield None
        return
    engine = create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True), poolclass=NullPool
    )
    with _usable(path), engine.connect() as connection:
        yield connection if inspect(connection).has_table("outcomes") else None


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise StoreError(
            f"{path}: the record of promotions cannot be used ({error.orig}). Restore it or move it away"
        ) from error

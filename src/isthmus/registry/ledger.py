"""The append-only record of promotions: what was intended, by which decision, by whom approved, how it ended."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from isthmus.core.errors import StoreError
from isthmus.registry.locks import exclusive
from isthmus.registry.tracking import Store

Action = Literal["promote", "rollback"]
_TABLES = """
CREATE TABLE IF NOT EXISTS intents (
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, action TEXT NOT NULL, model TEXT NOT NULL,
    old_champion TEXT, old_previous TEXT, new_champion TEXT NOT NULL, new_previous TEXT,
    decision TEXT NOT NULL, approved_by TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS outcomes (
    intent INTEGER PRIMARY KEY REFERENCES intents(id), at TEXT NOT NULL, outcome TEXT NOT NULL);
"""
_COLUMNS = "id, action, model, old_champion, old_previous, new_champion, new_previous, decision, approved_by"


@dataclass(frozen=True)
class Intent:
    """One change of the aliases, as it was intended.

    Attributes:
        id: number in the record, 0 before it is written.
        action: `promote` or `rollback`.
        model: registered name.
        old_champion: version before, None where there was none.
        old_previous: likewise.
        new_champion: version after.
        new_previous: likewise; None where there was no champion before.
        decision: sha256 of the decision, empty for a rollback.
        approved_by: name of the person, empty where none was needed.
    """

    id: int
    action: Action
    model: str
    old_champion: str | None
    old_previous: str | None
    new_champion: str
    new_previous: str | None
    decision: str
    approved_by: str


class Ledger:
    """The record, open and locked against all other promoters."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(_TABLES)
        for table in ("intents", "outcomes"):
            for verb in ("UPDATE", "DELETE"):
                connection.execute(
                    f"CREATE TRIGGER IF NOT EXISTS no_{verb.lower()}_{table} BEFORE {verb} ON {table}"
                    " BEGIN SELECT RAISE(ABORT, 'the record of promotions is append-only'); END"
                )

    def intend(self, intent: Intent) -> int:
        """Writes down what is about to be done and returns its number; on disk before anything is done."""
        values = [intent.action, intent.model, intent.old_champion, intent.old_previous, intent.new_champion]
        values += [intent.new_previous, intent.decision, intent.approved_by]
        columns = f"at, {_COLUMNS.removeprefix('id, ')}"
        marks = ", ".join("?" * 9)
        row = self._connection.execute(f"INSERT INTO intents ({columns}) VALUES ({marks})", [_now(), *values])  # noqa: S608
        return int(row.lastrowid or 0)

    def conclude(self, number: int, outcome: str) -> None:
        """Writes down how it ended: `done`, `finished later`, or `overtaken`."""
        self._connection.execute("INSERT INTO outcomes VALUES (?, ?, ?)", [number, _now(), outcome])

    def unfinished(self, model: str) -> Intent | None:
        """Returns the change that was begun and never concluded, if any: its process was killed."""
        return self._last(model, "id NOT IN (SELECT intent FROM outcomes)")

    def last_done(self, model: str) -> Intent | None:
        """Returns the last change that took effect."""
        return self._last(model, "id IN (SELECT intent FROM outcomes WHERE outcome != 'overtaken')")

    def _last(self, model: str, condition: str) -> Intent | None:
        query = f"SELECT {_COLUMNS} FROM intents WHERE model = ? AND {condition} ORDER BY id DESC LIMIT 1"  # noqa: S608
        row = self._connection.execute(query, [model]).fetchone()
        return Intent(*row) if row else None


@contextmanager
def open_ledger(store: Store) -> Iterator[Ledger]:
    """Locks out all other promoters of the store and opens the record.

    Raises:
        StoreError: another promoter holds it for too long, or nobody said where the record of a server lies.
    """
    path = ledger_path(store)
    # The lock is a file of its own: an open write transaction on the record itself would keep an intent from
    # reaching the disk before the aliases move.
    with exclusive(path.with_name(f"{path.stem}-lock.db"), "promotion"):
        try:
            connection = sqlite3.connect(path, isolation_level=None)
            with closing(connection):
                yield Ledger(connection)
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{path}: the record of promotions cannot be used ({error}). Restore it or move it away"
            ) from error


def ledger_path(store: Store) -> Path:
    """Returns where the record lies: `ISTHMUS_PROMOTION_DB`, or beside the store's SQLite file.

    Raises:
        StoreError: the store is a server and the variable is not set, or it names no SQLite file.
    """
    named = os.environ.get("ISTHMUS_PROMOTION_DB", "")
    if named:
        if "://" in named and not named.startswith("sqlite:///"):
            raise StoreError(f"ISTHMUS_PROMOTION_DB: cannot use '{named}'. Allowed: the path of an SQLite file")
        return Path(named.removeprefix("sqlite:///")).absolute()
    if store.file is None:
        raise StoreError(
            f"ISTHMUS_PROMOTION_DB is not set, and the store {store.uri} is a server: promoters on other machines"
            " could not see each other. Set it to the path of an SQLite file that all promoters share"
        )
    return store.file.with_name(f"{store.file.stem}.promotions.db")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

"""The append-only record of promotions: intention, decision, approving person, outcome.

It lies in an SQLite file or in a Postgres database; both hold the same tables and are asked in the same words.
"""

import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from isthmus.core.addresses import without_passwords
from isthmus.core.errors import StoreError
from isthmus.registry.ledger.postgres import reading_database
from isthmus.registry.ledger.sqlite import reading_file
from isthmus.registry.store.tracking import Store

Action = Literal["promote", "rollback"]
_POSTGRES = ("postgresql://", "postgresql+psycopg2://")
_COLUMNS = "id, action, model, old_champion, old_previous, new_champion, new_previous, decision, approved_by"
_NEW_INTENT = """
INSERT INTO intents (at, action, model, old_champion, old_previous, new_champion, new_previous, decision, approved_by)
VALUES (:at, :action, :model, :old_champion, :old_previous, :new_champion, :new_previous, :decision, :approved_by)
RETURNING id"""


@dataclass(frozen=True)
class Intent:
    """One change of the aliases, as it was intended.

    Attributes:
        id: number in the record, 0 before it is written.
        action: `promote` or `rollback`.
        model: registered name.
        old_champion: version before, None where there was none.
        old_previous: likewise.
        new_champion: version after, None where there is none any more.
        new_previous: likewise; None where there was no champion before.
        decision: sha256 of the decision, empty for a rollback.
        approved_by: name of the person, empty where none was needed.
    """

    id: int
    action: Action
    model: str
    old_champion: str | None
    old_previous: str | None
    new_champion: str | None
    new_previous: str | None
    decision: str
    approved_by: str


class Ledger:
    """The record, open and locked against all other promoters.

    Args:
        connection: each statement is a transaction of its own, on disk when it returns.
        place: the record's address, for messages.
    """

    def __init__(self, connection: Connection, place: str) -> None:
        self._connection = connection
        self._place = place

    def intend(self, intent: Intent) -> int:
        """Writes down what is about to be done and returns its number; on disk before anything is done."""
        values = {key: value for key, value in asdict(intent).items() if key != "id"}
        values["new_champion"] = intent.new_champion or ""  # the column is never null
        return int(self._ask(_NEW_INTENT, {"at": _now()} | values)[0][0])

    def conclude(self, number: int, outcome: str) -> None:
        """Writes down how it ended: `done`, `finished later`, or `overtaken`."""
        values = {"intent": number, "at": _now(), "outcome": outcome}
        self._ask("INSERT INTO outcomes (intent, at, outcome) VALUES (:intent, :at, :outcome) RETURNING intent", values)

    def confirm_lock(self) -> None:
        """Asks the database something: a lock on Postgres is gone with its connection, and others may go on.

        Raises:
            StoreError: the connection, and the lock with it, is lost.
        """
        self._ask("SELECT 1", {})

    def unfinished(self, model: str) -> Intent | None:
        """Returns the change that was begun and never concluded, if any: its process was killed."""
        return self._last(model, "id NOT IN (SELECT intent FROM outcomes)")

    def last_done(self, model: str) -> Intent | None:
        """Returns the last change that took effect."""
        return self._last(model, "id IN (SELECT intent FROM outcomes WHERE outcome != 'overtaken')")

    def _last(self, model: str, condition: str) -> Intent | None:
        query = f"SELECT {_COLUMNS} FROM intents WHERE model = :model AND {condition} ORDER BY id DESC LIMIT 1"  # noqa: S608
        rows = self._ask(query, {"model": model})
        if not rows:
            return None
        found = Intent(*rows[0])
        return replace(found, new_champion=found.new_champion or None)

    def _ask(self, statement: str, values: dict[str, Any]) -> list[Any]:
        try:
            return list(self._connection.execute(text(statement), values))
        except DBAPIError as error:
            raise StoreError(
                f"{self._place}: the record of promotions cannot be used ({_line(error)})."
                " Nothing is lost: when it is back, run the same command again to complete the operation"
            ) from error


def last_done(store: Store, model: str) -> Intent | None:
    """Returns the last change that took effect, without the lock; None without a record, or while one is under way.

    Raises:
        StoreError: the record cannot be read.
    """
    try:
        address = ledger_address(store)
    except StoreError:
        return None  # a server, and nobody said here where its record lies
    reading = reading_file(address) if isinstance(address, Path) else reading_database(address)
    with reading as connection:
        if connection is None:
            return None
        ledger = Ledger(connection, str(address) if isinstance(address, Path) else without_passwords(address))
        return None if ledger.unfinished(model) else ledger.last_done(model)


def ledger_address(store: Store) -> Path | str:
    """Returns where the record lies: `ISTHMUS_PROMOTION_DB`, or beside the store's SQLite file.

    Returns:
        The path of an SQLite file, or the address of a Postgres database.

    Raises:
        StoreError: the store is a server and the variable is not set, or it names neither.
    """
    named = os.environ.get("ISTHMUS_PROMOTION_DB", "")
    if named.startswith(_POSTGRES):
        return named
    if named:
        if "://" in named and not named.startswith("sqlite:///"):
            raise StoreError(
                f"ISTHMUS_PROMOTION_DB: cannot use '{named.partition('://')[0]}://...'."
                " Allowed: the path of an SQLite file, or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
            )
        path = Path(named.removeprefix("sqlite:///"))
        if not path.is_absolute():
            raise StoreError(
                f"ISTHMUS_PROMOTION_DB: '{named}' is a relative path: each folder would have a record and a lock of its"
                f" own. Name the whole path, such as {path.absolute()}"
            )
        return path.resolve()  # the lock lies beside it: one, however many links lead there
    if store.file is None:
        raise StoreError(
            f"ISTHMUS_PROMOTION_DB is not set, and the store {store.place} is a server: promoters on other machines"
            " could not see each other. Set it to postgresql://..., or to the path of an SQLite file that all"
            " promoters share"
        )
    return store.file.with_name(f"{store.file.stem}.promotions.db")


def _line(error: DBAPIError) -> str:
    return " ".join(str(error.orig).split())[:400]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

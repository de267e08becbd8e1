"""The SQLite file of a store: created atomically, and repaired after a kill.

A half-made file in which nothing was ever written is moved aside and made again. One that was used is never thrown
away: it is brought up to date on a copy, which is written back in one transaction.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from isthmus.core.errors import StoreError
from isthmus.core.files import atomic_file, flush
from isthmus.core.progress import log
from isthmus.registry.store import tables
from isthmus.registry.store.locks import exclusive
from isthmus.registry.store.tables import Tables

_COMPANIONS = ("-journal", "-wal", "-shm")  # what SQLite keeps beside a database
_SECONDS_OF_SILENCE = 5.0  # another program that is making tables changes them several times a second
_SECONDS_TO_WAIT = 120.0
_PATIENCE = 60.0  # [s] for another process that is writing


class NoStoreError(StoreError):
    """There is no store where it should be."""

    def __init__(self, place: str) -> None:
        super().__init__(f"{place}: no such store: nothing was published to it. Run 'isthmus publish SCENARIO'")
        self.place = place


def ready(file: Path, artifacts: str, *, make: bool) -> None:
    """Sees to it that MLflow can use a file, at once where it can already.

    Args:
        file: of the store.
        artifacts: address of the folder that its artifacts lie in.
        make: make the store where there is none; else that is an error, and nothing is written.

    Raises:
        StoreError: there is no store, or the file is of another kind, or cannot be repaired.
    """
    condition = _look(file).condition
    if condition == "whole":
        return
    if condition == "empty" and not make:
        raise NoStoreError(f"sqlite:///{file}")
    with making(file):
        for left in file.parent.glob(f".{file.name}.*.partial*"):
            left.unlink(missing_ok=True)  # who holds the lock is alone: it is a dead process's
        _mend(file, artifacts, make)


def making(file: Path) -> AbstractContextManager[None]:
    """Returns the lock under which a store's file is created, repaired or moved."""
    return exclusive(file.with_name(f"{file.stem}.tables-lock.db"), "making MLflow's tables")


def opened(file: Path) -> sqlite3.Connection:
    """Opens a file that is there; unlike SQLite's default it makes none."""
    return sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=_PATIENCE, isolation_level=None)


def _mend(file: Path, artifacts: str, make: bool) -> None:
    found = _settled(file)
    if found.condition == "foreign":
        raise StoreError(f"{file}: holds tables of another program and none of MLflow's. Name another file")
    if found.condition == "newer":
        raise StoreError(
            f"{file}: was written by a newer MLflow (revision {found.revision}), which this one cannot read."
            " Install that MLflow, or name another store in MLFLOW_TRACKING_URI"
        )
    if found.condition == "unfinished" and found.used:
        _upgrade(file, found.revision)
    elif found.condition == "unfinished" and not make:
        raise StoreError(
            f"{file}: MLflow's tables in it are incomplete (a process was killed), and nothing was ever published"
            " to it. 'isthmus publish SCENARIO' creates it again"
        )
    elif found.condition != "whole":
        if found.condition == "unfinished":
            aside = _move_aside(file)
            log(f"{file}: its tables were incomplete and empty: moved to {aside.name} and created again")
        _make(file, artifacts)


def _look(file: Path) -> Tables:
    if not file.exists():
        return Tables("empty")
    with _usable(file):
        return tables.look(_engine(file))


def _settled(file: Path) -> Tables:
    """Returns what there is once no other program, such as MLflow's own server, is making tables in the file."""
    give_up = time.monotonic() + _SECONDS_TO_WAIT
    found = _look(file)
    while found.condition == "unfinished" and time.monotonic() < give_up:
        before = _schema(file)
        time.sleep(_SECONDS_OF_SILENCE)
        found = _look(file)
        if _schema(file) == before:
            break
    return found


def _schema(file: Path) -> int:
    with closing(opened(file)) as connection:
        return int(connection.execute("PRAGMA schema_version").fetchone()[0])


def _make(file: Path, artifacts: str) -> None:
    with _scratch(file) as partial:
        partial.touch()
        tables.make(_engine(partial), f"sqlite:///{partial}", artifacts)
        _move_aside(file, _COMPANIONS)  # a journal without its database would be played back into the new one
        flush(partial)
        partial.replace(file)


def _upgrade(file: Path, revision: str) -> None:
    with _scratch(file) as partial:
        counted = _writes(file)
        _copy(file, partial)
        try:
            tables.upgrade(_engine(partial))
            wrong = "" if tables.look(_engine(partial)).condition == "whole" else "tables are missing after it"
        except Exception as error:  # a migration is a script of MLflow's: it may raise anything
            wrong = " ".join(str(error).split())[:300]
        if wrong:
            raise StoreError(
                f"{file}: MLflow's tables in it are incomplete or of an older MLflow (revision {revision or 'none'}),"
                f" and 'mlflow db upgrade' fails on a copy of it: {wrong}. It was used, so it is left as it is. Restore"
                " it from a copy, or move it away and publish again"
            )
        kept = _free_name(file, "before")
        with atomic_file(kept) as copy:
            _copy(file, copy)
        if _writes(file) != counted:
            raise StoreError(f"{file}: another program is writing to it. End that, and run the same command again")
        _copy(partial, file)  # one transaction: all of it or nothing
    log(f"{file}: MLflow's tables were brought up to date; the old file is kept as {kept.name}")


@contextmanager
def _scratch(file: Path) -> Iterator[Path]:
    """Yields a path beside a file, of which nothing is left but what was moved from there."""
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    with _usable(file):
        try:
            yield partial
        finally:
            for left in (partial, *(_beside(partial, companion) for companion in _COMPANIONS)):
                left.unlink(missing_ok=True)


@contextmanager
def _usable(file: Path) -> Iterator[None]:
    # not above: `tracking.py` sets what MLflow reads when it is imported
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError, MlflowException) as error:
        raise StoreError(
            f"{file}: the store cannot be used ({' '.join(str(error).split())[:300]}). Nothing is lost: results and"
            " records are files of the project. Check the file's permissions and the disk. Restore a damaged store"
            " from a copy, or move it away and publish again"
        ) from error


def _engine(file: Path) -> Engine:
    return create_engine("sqlite://", creator=lambda: opened(file), poolclass=NullPool)


def _copy(source: Path, target: Path) -> None:
    target.touch()
    with closing(opened(source)) as old, closing(opened(target)) as new:
        old.backup(new)


def _writes(file: Path) -> bytes:
    """Returns SQLite's own count of transactions that changed a file."""
    with file.open("rb") as stream:
        return stream.read(28)[24:]


def _move_aside(file: Path, parts: tuple[str, ...] = ("", *_COMPANIONS)) -> Path:
    """Gives a file and what SQLite keeps beside it another name, the journal first, and returns that of the file."""
    aside = _free_name(file, "broken")
    for part in sorted(parts, reverse=True):
        if _beside(file, part).exists():
            _beside(file, part).replace(_beside(aside, part))
    return aside


def _free_name(file: Path, word: str) -> Path:
    date = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (file.with_name(f"{file.name}.{word}-{date}{end}") for end in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(name for name in names if not name.exists())


def _beside(file: Path, companion: str) -> Path:
    return file.with_name(file.name + companion)

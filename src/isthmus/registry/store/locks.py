"""One at a time, across processes: a lock that dies with its holder."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from isthmus.core.errors import StoreError


@contextmanager
def exclusive(path: Path, what: str, patience: float = 120.0) -> Iterator[None]:
    """Holds the lock for the length of the block.

    The lock is SQLite's own write lock (`BEGIN IMMEDIATE`) on an empty database file: the system lets go of it
    when its holder is killed, so no lock file has to be cleaned up by hand.

    Args:
        path: the lock's file; made where missing, never removed.
        what: what is being waited for, for the message.
        patience: how long to wait for another holder [s].

    Raises:
        StoreError: another process held it all that time, or the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=patience, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"{path}: the lock for {what} cannot be created ({error}). Check the folder's rights"
        ) from None
    with closing(connection):
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"{path}: another process has held the lock for {what} for {patience:.0f} s ({error})."
                " Wait for it to end and run the same command again"
            ) from None
        yield

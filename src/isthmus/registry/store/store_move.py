"""Artifacts lie beside their store's file: a folder that was renamed or copied finds its own, wherever it was before.

MLflow writes the whole address of each artifact folder into its tables. The store remembers where its artifacts were
when it was last opened; where that is another place than now, all addresses follow in one transaction. So a copy
neither reads nor writes what belongs to the original.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from isthmus.core.errors import StoreError
from isthmus.core.progress import log
from isthmus.registry.store.store_file import making, opened

_REMEMBERED = "isthmus.artifacts"  # tag of MLflow's first experiment
_FIRST = 0  # its id
_OURS = "isthmus-"  # begins the names of our experiments
# table -> column that holds the address of a folder
_ADDRESSES = {
    "experiments": "artifact_location", "runs": "artifact_uri", "logged_models": "artifact_location",
    "model_versions": "storage_location",
}  # fmt: skip


def follow(file: Path, artifacts: str, *, remember: bool) -> None:
    """Sees to it that the addresses in a store lead to the artifacts beside it.

    Args:
        file: of the store; whole.
        artifacts: address of the folder beside it.
        remember: write down where that is, in a store that does not know it yet.

    Raises:
        StoreError: the store was moved and cannot be written.
    """
    try:
        with closing(opened(file)) as connection:
            known, before = _known(connection)
        if before in ("", artifacts) and (known or not remember):
            return
        with making(file), closing(opened(file)) as connection:
            moved = _rewrite(connection, artifacts)
    except sqlite3.Error as error:
        raise StoreError(
            f"{file}: its artifacts are at {artifacts} and its tables name another place, which cannot be corrected"
            f" ({error}). Make the file writable, or move the folder back to where it was"
        ) from error
    if moved:
        place = unquote(urlsplit(moved).path)
        log(f"{file}: its artifacts were at {place} when it was last opened; all addresses now lead to those beside it")


def _known(connection: sqlite3.Connection) -> tuple[bool, str]:
    """Returns whether the store remembers its place, and the place: else that of an experiment of ours, or nothing."""
    query = "SELECT value FROM experiment_tags WHERE experiment_id = ? AND key = ?"
    if found := connection.execute(query, (_FIRST, _REMEMBERED)).fetchone():
        return True, str(found[0])
    query = "SELECT artifact_location, name FROM experiments WHERE substr(name, 1, ?) = ? ORDER BY experiment_id"
    for location, name in connection.execute(query, (len(_OURS), _OURS)):
        if str(location).endswith(f"/mlartifacts/{name}"):
            return False, str(location).removesuffix(f"/{name}")
    return False, ""


def _rewrite(connection: sqlite3.Connection, artifacts: str) -> str:
    """Corrects all addresses in one transaction; returns where the store was, empty where it was here."""
    connection.execute("BEGIN IMMEDIATE")
    _, before = _known(connection)
    moved = before if before != artifacts else ""
    for table, column in _ADDRESSES.items() if moved else ():
        connection.execute(
            f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?",  # noqa: S608
            (artifacts, len(before) + 1, len(before) + 1, f"{before}/"),
        )
    tag = "INSERT OR REPLACE INTO experiment_tags (experiment_id, key, value) VALUES (?, ?, ?)"
    connection.execute(tag, (_FIRST, _REMEMBERED, artifacts))
    connection.execute("COMMIT")
    return moved

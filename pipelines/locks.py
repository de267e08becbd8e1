"""Clears what a killed dvc leaves in its lock table, and nothing that a living one holds.

`.dvc/tmp/rwlock` is JSON: which process reads or writes which path. A dvc killed by SIGKILL leaves its entries there,
and an id that another process has since been given makes every later run fail as busy. `.dvc/tmp/lock` and
`.dvc/tmp/rwlock.lock` need no clearing: the kernel frees their `flock` with the process, and removing the files would
let two processes hold "the" lock on two different files.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isthmus.core.errors import StoreError
from isthmus.core.files import write_text

_SECONDS_TO_WAIT = 30.0  # dvc holds the guard for milliseconds
_CLOCK_MARGIN = 5.0  # [s] start times are known to a hundredth, file times to the file system's grain


def clear_stale_locks(project: Path) -> list[str]:
    """Removes entries of dead processes from dvc's lock table; returns what was removed, one line each.

    Raises:
        StoreError: another process keeps the table's guard for half a minute.
    """
    table = project / ".dvc" / "tmp" / "rwlock"
    if not table.exists():
        return []
    with _guard(table.with_name("rwlock.lock")):
        written = table.stat().st_mtime
        try:
            entries = json.loads(table.read_text(encoding="utf-8"))
        except ValueError:  # dvc was killed while it wrote the table
            write_text(table, "{}")
            return [f"{table}: half-written lock table of a killed dvc"]
        kept, removed = _without_dead(entries, written)
        if removed:
            write_text(table, json.dumps(kept))
        return removed


def is_alive(pid: int, before: float) -> bool:
    """Says whether a process runs that may have started at or before a time [s since 1970].

    A zombie is dead, and so is a process that started later: it only has a dead one's id.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's process
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return not Path("/proc/self/stat").exists()  # no /proc on this system: believe the id; else it ended just now
    started = time.time() - uptime + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return fields[0] not in "ZX" and started <= before + _CLOCK_MARGIN


def _without_dead(entries: dict[str, Any], written: float) -> tuple[dict[str, Any], list[str]]:
    removed = []
    kept: dict[str, Any] = {"write": {}, "read": {}}
    for path, holder in entries.get("write", {}).items():
        if holder and is_alive(holder["pid"], written):
            kept["write"][path] = holder
        else:
            removed.append(f"{path}: write lock of a dead process {holder.get('pid', '')} ({holder.get('cmd', '')})")
    for path, holders in entries.get("read", {}).items():
        living = [holder for holder in holders if is_alive(holder["pid"], written)]
        removed += [
            f"{path}: read lock of a dead process {holder['pid']} ({holder['cmd']})"
            for holder in holders
            if holder not in living
        ]
        if living:
            kept["read"][path] = living
    return kept, removed


@contextmanager
def _guard(path: Path) -> Iterator[None]:
    """Holds the lock under which dvc itself edits the table."""
    with path.open("a+") as stream:
        give_up = time.monotonic() + _SECONDS_TO_WAIT
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise StoreError(
                        f"{path}: held by another process for {_SECONDS_TO_WAIT:.0f} s."
                        f" See who with 'fuser {path}', end it, and run the same command again"
                    ) from None
                time.sleep(0.05)
        yield

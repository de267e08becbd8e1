"""Clears what a killed dvc leaves half-written, and nothing that a living one holds.

| file | what a kill leaves | what is done |
| --- | --- | --- |
| `.dvc/tmp/rwlock`, JSON: which process reads or writes which path | entries of the dead; an empty or cut table | entries of dead processes go; a broken table is emptied |
| `dvc.lock` | empty, or cut somewhere | cut back to its last whole entry: what is lost comes out of DVC's cache of runs |
| `.dvc/tmp/lock`, `.dvc/tmp/rwlock.lock` | nothing | the kernel frees their `flock` with the process; without the files two could hold "the" lock |
| folders of `core/files.py` that were being written | `.NAME.PID.partial` | removed; see `sweep` there |
"""  # noqa: E501

import json
import re
from pathlib import Path
from typing import Any

import psutil

from isthmus.core.config import read_yaml
from isthmus.core.errors import ConfigError
from isthmus.core.files import sweep, write_text
from isthmus.core.locks import DVC_LOCK, flocked

_CLOCK_MARGIN = 5.0  # [s] start times are known to a hundredth, file times to the file system's grain


def clear_leftovers(project: Path) -> list[str]:
    """Puts right all that killed processes left in a project; returns what was done, one line each.

    Raises:
        StoreError: another process keeps one of dvc's locks for half a minute.
    """
    written = [project, *project.glob("data/raw"), *project.glob("out"), *project.glob("out/*/")]
    swept = [line for folder in written for line in sweep(folder)]
    return [*swept, *clear_stale_locks(project), *_mend_lock_file(project)]


def clear_stale_locks(project: Path) -> list[str]:
    """Removes entries of dead processes from dvc's lock table; returns what was removed, one line each.

    Raises:
        StoreError: another process keeps the table's guard for half a minute.
    """
    table = project / ".dvc" / "tmp" / "rwlock"
    if not table.exists():
        return []
    with flocked(table.with_name("rwlock.lock")):
        written = table.stat().st_mtime
        try:
            kept, removed = _without_dead(json.loads(table.read_text(encoding="utf-8")), written)
        except (ValueError, AttributeError, TypeError, KeyError):  # dvc was killed while it wrote the table
            write_text(table, "{}")
            return [f"{table}: half-written lock table of a killed dvc"]
        if removed:
            write_text(table, json.dumps(kept))
        return removed


def is_alive(pid: int, command: str, before: float) -> bool:
    """Returns whether a process that was noted with its command line may still run.

    A zombie is dead. Numbers are given again: a process is another one if it began after the note was written and its
    command line ends otherwise. Neither alone would do: a clock that is set forward makes every living process look
    younger than its notes, and a process of ours that is no dvc notes itself in other words.

    Args:
        pid: its number.
        command: its arguments as dvc notes them, joined by blanks.
        before: when the note was written [s since 1970].
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        last = (process.cmdline() or [""])[-1].split() or [""]
        return process.create_time() <= before + _CLOCK_MARGIN or last[-1:] == command.split()[-1:]
    except psutil.AccessDenied:
        return True  # somebody else's process
    except psutil.NoSuchProcess:
        return False


def _without_dead(entries: dict[str, Any], written: float) -> tuple[dict[str, Any], list[str]]:
    removed = []
    kept: dict[str, Any] = {"write": {}, "read": {}}
    for path, holder in entries.get("write", {}).items():
        if holder and is_alive(holder["pid"], holder["cmd"], written):
            kept["write"][path] = holder
        else:
            removed.append(f"{path}: write lock of a dead process {holder.get('pid', '')} ({holder.get('cmd', '')})")
    for path, holders in entries.get("read", {}).items():
        living = [holder for holder in holders if is_alive(holder["pid"], holder["cmd"], written)]
        removed += [
            f"{path}: read lock of a dead process {holder['pid']} ({holder['cmd']})"
            for holder in holders
            if holder not in living
        ]
        if living:
            kept["read"][path] = living
    return kept, removed


def _mend_lock_file(project: Path) -> list[str]:
    path = project / "dvc.lock"
    if not path.exists() or _is_whole(path):
        return []
    with flocked(project / DVC_LOCK):
        if not path.exists() or _is_whole(path):  # it was only being written
            return []
        text = path.read_text(encoding="utf-8", errors="replace")
        if re.search(r"^(<{7} |={7}$|>{7} )", text, re.MULTILINE):
            return []  # a merge of git, and for a person to settle
        text = re.sub(r"\n +$", "\n", text)
        # an entry begins with its name, two blanks in; all before it is whole
        begins = [match.start() for match in re.finditer(r"^  \S.*$", text, re.MULTILINE)]
        for end in (len(text), *reversed(begins)):
            write_text(path, text[:end])
            if text[:end].strip() and _is_whole(path):
                lost = [text[begin:].partition("\n")[0].strip(" :") for begin in begins if begin >= end]
                return [f"{path}: half-written by a killed dvc; dropped: {', '.join(lost) or 'blanks'}"]
        path.unlink()
        return [f"{path}: emptied by a killed dvc; the results are in DVC's cache"]


def _is_whole(path: Path) -> bool:
    if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        return False
    try:
        stages = read_yaml(path).get("stages", {})
    except ConfigError:
        return False
    if not isinstance(stages, dict) or not all(isinstance(entry, dict) and "cmd" in entry for entry in stages.values()):
        return False
    # cut between two lines it may still be YAML: then the last thing in it is unfinished
    last = next(reversed(next(reversed(stages.values())).values())) if stages else "none"
    if isinstance(last, list):
        return {"path", "md5", "size"} <= set(last[-1])
    return None not in last.values() if isinstance(last, dict) else last is not None

"""Whether a published model could be made again elsewhere: its data in the DVC remote, its tree in the git remote."""

import json
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from isthmus.core.errors import StoreError
from isthmus.registry.lineage import Lineage
from isthmus.registry.snapshot import run_git

_LEFT_BEHIND = ("new", "missing")  # in words of `dvc status --cloud`: not in the remote


def origin(lineage: Lineage, snapshot: str) -> dict[str, dict[str, Any]]:
    """Returns for `data` and `snapshot` the `place` (a remote's name, empty without one), `found`, and `missing`."""
    return {"data": _data(lineage), "snapshot": _snapshot(lineage.project, snapshot)}


def raw_is_versioned(lineage: Lineage) -> bool:
    """Says whether DVC has the raw images themselves: a plain folder that a stage reads is hashed and never kept."""
    raw = lineage.raw[0]
    made = {out["path"] for entry in lineage.entries.values() for out in entry.get("outs", [])}
    return raw in made or (lineage.project / f"{raw}.dvc").is_file()


def _data(lineage: Lineage) -> dict[str, Any]:
    project, scenario = lineage.project, lineage.scenario
    remote = _dvc(project, "config", "core.remote").stdout.strip()
    if not remote:
        return {"place": "", "found": False, "missing": []}
    # with its ancestors: the raw images first of all, from which the rest can be made
    targets = [["--with-deps", f"report@{scenario}"]]
    pointer = f"{lineage.raw[0]}.dvc"
    if (project / pointer).is_file():
        targets.append([pointer])  # asked for alone: --with-deps does not follow a stage to it
    states: dict[str, str] = {}
    for target in targets:
        done = _dvc(project, "status", "--cloud", "--json", *target)
        if done.returncode:
            missing = [f"the remote does not answer ({_line(done.stderr)})"]
            return {"place": remote, "found": False, "missing": missing}
        states |= json.loads(done.stdout or "{}")
    missing = [] if raw_is_versioned(lineage) else [f"{lineage.raw[0]} (not versioned: 'dvc add {lineage.raw[0]}')"]
    left = {path for path, state in states.items() if state in _LEFT_BEHIND}
    # a folder stands for the files in it
    missing += sorted(path for path in left if not left & {parent.as_posix() for parent in PurePosixPath(path).parents})
    return {"place": remote, "found": not missing, "missing": missing}


def _snapshot(project: Path, snapshot: str) -> dict[str, Any]:
    remotes = run_git(project, "remote").split()
    if not remotes:
        return {"place": "", "found": False, "missing": []}
    said = []
    for remote in remotes:
        try:
            tips = [line.split("\t") for line in run_git(project, "ls-remote", remote).splitlines()]
        except StoreError as error:
            said.append(f"the remote does not answer ({_line(str(error))})")
            continue
        if any(_holds(project, tip, snapshot) for tip in {sha for sha, _ in tips}):
            return {"place": remote, "found": True, "missing": []}
        said.append(f"commit {snapshot[:12]}")
    return {"place": ", ".join(remotes), "found": False, "missing": sorted(set(said))}


def _holds(project: Path, tip: str, snapshot: str) -> bool:
    if tip == snapshot:
        return True
    try:  # a tip that was never fetched cannot be looked into; it then does not count
        return run_git(project, "merge-base", snapshot, tip) == snapshot
    except StoreError:
        return False


def _dvc(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def _line(text: str) -> str:
    return " ".join(text.split())[-200:]

"""Whether a published model could be made again elsewhere: its data in the DVC remote, its tree in the git remote."""

from pathlib import Path
from typing import Any

from isthmus.core.errors import StoreError
from isthmus.registry.lineage import Lineage
from isthmus.registry.remote import default_remote, kept_data
from isthmus.registry.snapshot import run_git


def origin(lineage: Lineage, snapshot: str) -> dict[str, dict[str, Any]]:
    """Returns for `data` and `snapshot` the `place` (a remote's name, empty without one), `found`, and `missing`."""
    return {"data": _data(lineage), "snapshot": _snapshot(lineage.project, snapshot)}


def _data(lineage: Lineage) -> dict[str, Any]:
    remote = default_remote(lineage.project)
    if not remote:
        return {"place": "", "found": False, "missing": []}
    try:
        kept = kept_data(lineage.project, lineage.scenario)
    except StoreError as error:
        return {"place": remote, "found": False, "missing": [f"the remote does not answer ({_line(str(error))})"]}
    unversioned = [f"{kept.unversioned} (not versioned: 'dvc add {kept.unversioned}')"] if kept.unversioned else []
    missing = [*unversioned, *kept.missing]
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


def _line(text: str) -> str:
    return " ".join(text.split())[-200:]

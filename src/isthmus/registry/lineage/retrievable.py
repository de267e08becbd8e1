"""Whether a published model could be made again elsewhere: its data in the DVC remote, its tree in the git remote."""

from pathlib import Path
from typing import Any

from isthmus.core.errors import StoreError
from isthmus.registry.lineage.dvc_remote import default_remote, kept_data
from isthmus.registry.lineage.git_remote import holds, snapshot_remote
from isthmus.registry.lineage.lineage import Lineage


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
    remote = snapshot_remote(project)
    if not remote:
        return {"place": "", "found": False, "missing": []}
    try:
        found = holds(project, remote, snapshot)
    except StoreError as error:
        return {"place": remote, "found": False, "missing": [f"the remote does not answer ({_line(str(error))})"]}
    return {"place": remote, "found": found, "missing": [] if found else [f"commit {snapshot[:12]}"]}


def _line(text: str) -> str:
    return " ".join(text.split())[-200:]

"""Which of a scenario's data is in the DVC remote, for evidence and for promotion."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from isthmus.core.config import read_yaml
from isthmus.core.errors import StoreError
from isthmus.registry.lineage.lineage import read_lock, run_dvc


@dataclass(frozen=True)
class Kept:
    """What a remote holds of a scenario.

    Attributes:
        missing: paths that are not in the remote, each once: a folder stands for the files in it, and one of several
            paths with the same content for all of them; ascending.
        lost: of all files, those that are not in this machine's cache either.
        unversioned: the raw folder where DVC hashes it and never keeps it, else empty.
        push: commands that put it right.
    """

    missing: list[str]
    lost: list[str]
    unversioned: str
    push: list[str]


def default_remote(project: Path) -> str:
    """Returns the default remote's name, empty where none is configured at all.

    Raises:
        StoreError: there are remotes and none is the default, or dvc failed.
    """
    if not (project / ".dvc").is_dir():
        return ""
    values = dict(line.split("=", 1) for line in run_dvc(project, "config", "--list").splitlines() if "=" in line)
    remotes = sorted({key.split(".")[1] for key in values if key.startswith("remote.")})
    if remotes and "core.remote" not in values:
        raise StoreError(
            f"{project}: DVC has remotes ({', '.join(remotes)}) and no default one."
            f" Run 'dvc remote default {remotes[0]}', then the same command again"
        )
    return values.get("core.remote", "")


def kept_data(tree: Path, scenario: str) -> Kept:
    """Looks up a report's data and all their inputs in the default remote, as a tree's `dvc.lock` names them.

    Args:
        tree: a project, or a checkout of one of its commits.
        scenario: its name.

    Raises:
        StoreError: the remote does not answer.
    """
    report, raw = f"report@{scenario}", raw_folder(tree, scenario)
    targets = [["--with-deps", report]]
    for data in (raw, given_labels(read_lock(tree), scenario)):
        if data and (tree / f"{data}.dvc").is_file():
            # by its own name: `--with-deps` does not follow a stage to a pointer
            targets.append([f"{data}.dvc"])
    states: dict[str, str] = {}
    for target in targets:
        states |= json.loads(run_dvc(tree, "status", "--cloud", "--json", *target) or "{}")
    # "deleted" is in the remote and not in the cache here: as it should be on a machine that only promotes
    left = {path for path, state in states.items() if state != "deleted"}
    missing = sorted(path for path in left if not left & {parent.as_posix() for parent in PurePosixPath(path).parents})
    return Kept(
        missing,
        sorted(path for path in left if states[path] == "missing"),
        "" if not raw or raw_is_versioned(tree, raw) else raw,
        [f"dvc push {' '.join(target)}" for target in targets],
    )


def lend_pointer(project: Path, tree: Path, scenario: str) -> None:
    """Puts a project's pointer to the raw images into a checkout that lacks it, if it is of the very same images.

    A pointer that was made after the results is in no snapshot; the images are kept all the same.
    """
    raw = raw_folder(tree, scenario)
    mine, theirs = project / f"{raw}.dvc", tree / f"{raw}.dvc"
    if not raw or theirs.exists() or not mine.is_file():
        return
    wanted = {dep["md5"] for dep in read_lock(tree)[f"ingest@{scenario}"]["deps"] if dep["path"] == raw}
    if {out["md5"] for out in read_yaml(mine)["outs"]} == wanted:
        theirs.parent.mkdir(parents=True, exist_ok=True)
        theirs.write_bytes(mine.read_bytes())


def raw_folder(tree: Path, scenario: str) -> str:
    """Returns the raw folder that a scenario's `ingest` read, empty where it has no such stage."""
    return _flag(read_lock(tree), f"ingest@{scenario}", "--raw")


def given_labels(entries: Mapping[str, Any], scenario: str) -> str:
    """Returns the file of labels that a person gave, by entries of a `dvc.lock`; empty where there is no such stage."""
    folder = _flag(entries, f"labels@{scenario}", "--labels")
    return f"{folder}/{scenario}.csv" if folder else ""


def _flag(entries: Mapping[str, Any], address: str, flag: str) -> str:
    entry = entries.get(address)
    words = shlex.split(entry["cmd"]) if entry else []
    return words[words.index(flag) + 1] if flag in words else ""


def raw_is_versioned(tree: Path, raw: str) -> bool:
    """Says whether DVC has the raw images themselves: a plain folder that a stage reads is hashed and never kept."""
    made = {out["path"] for entry in read_lock(tree).values() for out in entry.get("outs", [])}
    return raw in made or (tree / f"{raw}.dvc").is_file()

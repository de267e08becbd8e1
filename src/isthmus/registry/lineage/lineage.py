"""Where a scenario's report came from: the entries of `dvc.lock` that led to it, and what they rest on."""

import fcntl
import hashlib
import json
import os
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from isthmus.core.config import load_params
from isthmus.core.errors import ConfigError, StoreError
from isthmus.core.files import sha256_bytes, sha256_file
from isthmus.core.names import CODE
from isthmus.core.params.yaml_file import UnmergedError, read_yaml
from isthmus.core.process.children import run_child
from isthmus.core.process.dvc_process import DVC
from isthmus.core.process.environment import QUIET
from isthmus.core.process.failures import other_words
from isthmus.data.labels.given import GIVEN_LABELS, labels_file, parted
from isthmus.data.manifest import MANIFEST, read_table
from isthmus.data.scenario import ScenarioParams

REQUIREMENTS = "requirements.lock"
_SECONDS_TO_WAIT = 10.0  # dvc writes its lock file in well under one


@dataclass(frozen=True)
class Lineage:
    """What one report rests on.

    Attributes:
        project: the project's root.
        scenario: its name.
        entries: stage name -> its entry in `dvc.lock`, for the report and all its ancestors but the stage `code`: that
            one reads all of the source, and the others have the fingerprint of what they use of it.
        key: sha256 of the entries: the same results have the same key, wherever they were computed.
        raw: path of the raw data and its md5 as DVC writes it.
        params_md5: md5 of the values the ancestors read from `params.yaml`.
        requirements_sha256: sha256 of `requirements.lock`, empty where the project has none.
    """

    project: Path
    scenario: str
    entries: dict[str, dict[str, Any]]
    key: str
    raw: tuple[str, str]
    params_md5: str
    requirements_sha256: str

    def path(self, stage: str, flag: str) -> Path:
        """Returns the file or folder that a stage was given by a flag: `path("select", "choice")`."""
        return self.project / self.flag(f"{stage}@{self.scenario}", flag)

    def flag(self, address: str, flag: str) -> str:
        """Returns the value of one flag of a stage's command line: the command owns the path, no code repeats it.

        Raises:
            StoreError: the stage is no ancestor of the report, or its command has no such flag.
        """
        if address not in self.entries:
            raise StoreError(
                f"dvc.lock: no entry '{address}' leads to 'report@{self.scenario}'. {_repro(self.scenario)}"
            )
        words = shlex.split(self.entries[address]["cmd"])
        if f"--{flag}" not in words[:-1]:
            raise StoreError(
                f"dvc.yaml: the command of '{address}' has no --{flag}. Add it, then {_repro(self.scenario)}"
            )
        return _after(words, f"--{flag}")

    def trained(self) -> dict[str, Path]:
        """Returns method -> folder of its trained weights and curves, in the order of names."""
        addresses = [address for address in self.entries if address.startswith(f"train@{self.scenario}-")]
        found = {self.flag(address, "method"): self.project / self.flag(address, "trained") for address in addresses}
        return dict(sorted(found.items()))

    def md5_of(self, path: Path) -> str:
        """Returns the md5 that DVC has for an output or a dependency of an ancestor."""
        wanted = path.relative_to(self.project).as_posix()
        return next(md5 for entry in self.entries.values() for place, md5 in _files(entry) if place == wanted)


def read_lineage(project: Path, scenario: str) -> Lineage:
    """Reads what the scenario's report rests on, from `dvc.lock`.

    Raises:
        StoreError: the report was not made, or something it rests on changed since.
    """
    project = project.resolve()
    _check_made(project, scenario)
    before = read_lock(project)
    with ThreadPoolExecutor(1) as pool:
        listing = pool.submit(_stage_names, project)  # beside the check: a second of start-up
        _check_fresh(project, scenario)
        # A stage that was dropped from dvc.yaml keeps its entry in dvc.lock: only names that dvc.yaml still has count.
        names = listing.result()
    entries = _entries(before, names, scenario)
    if not entries or entries != _entries(read_lock(project), names, scenario):
        raise StoreError(
            f"{project / 'dvc.lock'}: another run changed 'report@{scenario}' just now. Wait for it to end, and run the"
            " same command again"
        )
    canonical = json.dumps(entries, sort_keys=True, separators=(",", ":"))
    params = json.dumps([entries[name].get("params") for name in sorted(entries)], sort_keys=True)
    requirements = project / REQUIREMENTS
    return Lineage(
        project,
        scenario,
        entries,
        sha256_bytes(canonical.encode()),
        _raw(entries, scenario),
        hashlib.md5(params.encode(), usedforsecurity=False).hexdigest(),
        sha256_file(requirements) if requirements.exists() else "",
    )


def _entries(lock: dict[str, dict[str, Any]], names: list[str], scenario: str) -> dict[str, dict[str, Any]]:
    """Returns the entries that led to a scenario's report, none where it has no entry itself."""
    lock = {name: lock[name] for name in names if name in lock and name != CODE}
    entries = ancestors(lock, f"report@{scenario}") if f"report@{scenario}" in lock else {}
    if labels := entries.get(f"labels@{scenario}"):
        # The folder holds the labels of all scenarios; what of it is this one's stands in the outputs.
        own = [dep for dep in labels["deps"] if f"--labels {dep['path']}" not in labels["cmd"]]
        entries[f"labels@{scenario}"] = labels | {"deps": own}
    return entries


def ancestors(lock: dict[str, dict[str, Any]], stage: str) -> dict[str, dict[str, Any]]:
    """Returns the lock entries of a stage and of all stages whose outputs it depends on, by name.

    >>> a = {"cmd": "a", "outs": [{"path": "x/y", "md5": "1"}]}
    >>> b = {"cmd": "b", "deps": [{"path": "x", "md5": "2"}]}
    >>> list(ancestors({"b": b, "a": a, "c": a | {"outs": []}}, "b"))
    ['a', 'b']
    """
    found: set[str] = set()
    pending = [stage]
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.add(name)
        needs = [dep["path"] for dep in lock[name].get("deps", [])]
        pending += [
            other for other in lock for out in lock[other].get("outs", []) if any(_touch(out["path"], n) for n in needs)
        ]
    return {name: lock[name] for name in sorted(found)}


def read_lock(project: Path) -> dict[str, dict[str, Any]]:
    """Returns stage name -> its entry in `dvc.lock`, while no dvc writes it.

    Raises:
        StoreError: it is missing, or stays unreadable: left half-written by a kill, or with conflict markers of git.
    """
    path, give_up = project / "dvc.lock", time.monotonic() + _SECONDS_TO_WAIT
    while True:
        with _kept_from_dvc(project):
            try:
                stages: dict[str, dict[str, Any]] = read_yaml(path)["stages"]
                return stages or {}
            except UnmergedError as error:
                raise StoreError(str(error)) from None
            except (ConfigError, KeyError) as error:
                problem = " ".join(str(error).split())
        if time.monotonic() > give_up or not path.exists():
            raise StoreError(
                f"{path}: cannot be read ({problem[:200]}). Where 'isthmus run' or dvc is writing it, wait for the end;"
                " else bring it back with 'git checkout dvc.lock' or 'dvc commit', and run the same command again"
            )
        time.sleep(0.2)


@contextmanager
def _kept_from_dvc(project: Path) -> Iterator[None]:
    """Holds the lock under which dvc writes its files, where there is one and it can be had; never makes it."""
    path, give_up = project / ".dvc" / "tmp" / "lock", time.monotonic() + _SECONDS_TO_WAIT
    try:
        stream = path.open("rb")
    except OSError:
        yield  # no dvc ever ran here, or not as this user: the caller reads again where it reads nonsense
        return
    with stream:
        while time.monotonic() < give_up:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(0.05)
        yield


def _stage_names(project: Path) -> list[str]:
    give_up = time.monotonic() + _SECONDS_TO_WAIT
    while True:
        try:
            return run_dvc(project, "stage", "list", "--name-only").split()
        except StoreError as error:  # it reads dvc.lock without asking whether another dvc writes it
            if "dvc.lock" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.2)


def _check_made(project: Path, scenario: str) -> None:
    if not (project / "dvc.yaml").exists():
        raise StoreError(
            f"{project / 'dvc.yaml'}: no such file: this folder is not a project, and nothing was written here."
            " Run the command in the project's root"
        )
    if not (project / "dvc.lock").exists():
        raise StoreError(f"{project / 'dvc.lock'}: no such file, so nothing can be published. {_repro(scenario)}")


def _check_fresh(project: Path, scenario: str) -> None:
    status = json.loads(run_dvc(project, "status", "--json", "--with-deps", f"report@{scenario}", scenario=scenario))
    if status and not _of_other_labels(project, scenario, status):
        changed = ", ".join(sorted(status))
        raise StoreError(f"dvc.lock: not up to date for 'report@{scenario}' (changed: {changed}). {_repro(scenario)}")


def _of_other_labels(project: Path, scenario: str, status: dict[str, Any]) -> bool:
    """Says whether labels of other scenarios are all that changed: they share a folder."""
    stage = f"labels@{scenario}"
    words = shlex.split(read_lock(project).get(stage, {}).get("cmd", ""))
    if not words or status != {stage: [{"changed deps": {_after(words, "--labels"): "modified"}}]}:
        return False
    settings = load_params(ScenarioParams, project / "params.yaml", {"scenario": f"scenarios.{scenario}"}).scenario
    images = read_table(project / _after(words, "--manifest"), MANIFEST)
    now = parted(labels_file(project / _after(words, "--labels"), scenario), images, settings)
    then = [read_table(project / _after(words, flag), GIVEN_LABELS) for flag in ("--measure", "--train")]
    return all(
        one[name].tolist() == other[name].tolist()
        for one, other in zip((now.measure, now.train), then, strict=True)
        for name in GIVEN_LABELS.names
    )


def _after(words: list[str], flag: str) -> str:
    return words[words.index(flag) + 1]


def run_dvc(project: Path, *arguments: str, scenario: str | None = None) -> str:
    """Runs dvc in a child process and returns its output; a scenario that is not there is named.

    Raises:
        StoreError: dvc failed.
    """
    # A child process: dvc's Python API belongs to pipelines/graph.py alone.
    command = [*DVC, "--wait-for-lock", *arguments]
    done = run_child(command, project, os.environ | QUIET)
    if done.status:
        names = run_dvc(project, "stage", "list", "--name-only").split() if scenario else []
        if scenario and f"report@{scenario}" not in names:
            there = ", ".join(name.partition("@")[2] for name in names if name.startswith("report@"))
            raise StoreError(f"dvc.yaml: there is no scenario '{scenario}'. There are: {there or 'none'}")
        raise StoreError(f"'dvc {' '.join(arguments)}' failed in {project}: {other_words(done.err)}")
    return done.out


def _raw(entries: dict[str, dict[str, Any]], scenario: str) -> tuple[str, str]:
    path = _after(shlex.split(entries[f"ingest@{scenario}"]["cmd"]), "--raw")
    return path, next(md5 for place, md5 in _files(entries[f"ingest@{scenario}"]) if place == path)


def _files(entry: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["path"], item["md5"]) for item in [*entry.get("deps", []), *entry.get("outs", [])]]


def _touch(one: str, other: str) -> bool:
    left, right = PurePosixPath(one), PurePosixPath(other)
    return left == right or left in right.parents or right in left.parents


def _repro(scenario: str) -> str:
    return f"Run 'dvc repro report@{scenario}'"

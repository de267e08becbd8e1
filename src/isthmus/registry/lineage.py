"""Where a scenario's report came from: the entries of `dvc.lock` that led to it, and what they rest on."""

import hashlib
import json
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from isthmus.core.config import read_yaml
from isthmus.core.dvc_process import DVC
from isthmus.core.errors import StoreError
from isthmus.core.failures import other_words
from isthmus.core.files import sha256_bytes, sha256_file

REQUIREMENTS = "requirements.lock"


@dataclass(frozen=True)
class Lineage:
    """What one report rests on.

    Attributes:
        project: the project's root.
        scenario: its name.
        entries: stage name -> its entry in `dvc.lock`, for the report and all its ancestors.
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
        return words[words.index(f"--{flag}") + 1]

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
    with ThreadPoolExecutor(1) as pool:
        listing = pool.submit(
            run_dvc, project, "stage", "list", "--name-only"
        )  # beside the check: a second of start-up
        _check_fresh(project, scenario)
        # A stage that was dropped from dvc.yaml keeps its entry in dvc.lock: only names that dvc.yaml still has count.
        names = listing.result().split()
    lock = read_yaml(project / "dvc.lock")["stages"]
    entries = ancestors({name: lock[name] for name in names if name in lock}, f"report@{scenario}")
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


def _check_fresh(project: Path, scenario: str) -> None:
    for name in ("dvc.yaml", "dvc.lock"):
        if not (project / name).exists():
            raise StoreError(f"{project / name}: no such file, so nothing can be published. {_repro(scenario)}")
    status = json.loads(run_dvc(project, "status", "--json", "--with-deps", f"report@{scenario}", scenario=scenario))
    if status:
        changed = ", ".join(sorted(status))
        raise StoreError(f"dvc.lock: not up to date for 'report@{scenario}' (changed: {changed}). {_repro(scenario)}")


def run_dvc(project: Path, *arguments: str, scenario: str | None = None) -> str:
    """Runs dvc in a child process and returns its output; a scenario that is not there is named.

    Raises:
        StoreError: dvc failed.
    """
    # A child process: dvc's Python API belongs to pipelines/graph.py alone.
    command = [*DVC, "--wait-for-lock", *arguments]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    if done.returncode:
        names = run_dvc(project, "stage", "list", "--name-only").split() if scenario else []
        if scenario and f"report@{scenario}" not in names:
            there = ", ".join(name.partition("@")[2] for name in names if name.startswith("report@"))
            raise StoreError(f"dvc.yaml: there is no scenario '{scenario}'. There are: {there or 'none'}")
        raise StoreError(f"'dvc {' '.join(arguments)}' failed in {project}: {other_words(done.stderr)}")
    return done.stdout


def _raw(entries: dict[str, dict[str, Any]], scenario: str) -> tuple[str, str]:
    words = shlex.split(entries[f"ingest@{scenario}"]["cmd"])
    path = words[words.index("--raw") + 1]
    return path, next(md5 for place, md5 in _files(entries[f"ingest@{scenario}"]) if place == path)


def _files(entry: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["path"], item["md5"]) for item in [*entry.get("deps", []), *entry.get("outs", [])]]


def _touch(one: str, other: str) -> bool:
    left, right = PurePosixPath(one), PurePosixPath(other)
    return left == right or left in right.parents or right in left.parents


def _repro(scenario: str) -> str:
    return f"Run 'dvc repro report@{scenario}'"

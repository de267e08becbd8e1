"""The results of a git revision, a DVC experiment or the workspace: entries of its `dvc.lock`, files in DVC's cache."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isthmus.core.errors import ConfigError, StoreError
from isthmus.core.files import read_json, sha256_bytes, sha256_file
from isthmus.core.names import CODE
from isthmus.core.params.yaml_file import read_yaml
from isthmus.registry.lineage.git import run_git
from isthmus.registry.lineage.lineage import REQUIREMENTS, ancestors, read_lock, run_dvc

WORKSPACE = "workspace"  # DVC's word for the results as they are now
_SHOWN = 8  # [digit] of a commit


@dataclass(frozen=True)
class Revision:
    """Results of one scenario.

    Attributes:
        name: as it was asked for.
        commit: what that is.
        scenario: its name.
        entries: stage name -> its entry in `dvc.lock`, of the report and all its ancestors but the stage `code`.
        packages: sha256 of the lock file; empty where there is none.
        cache: folder of DVC's cache.
    """

    name: str
    commit: str
    scenario: str
    entries: dict[str, dict[str, Any]] = field(repr=False)
    packages: str
    cache: Path

    def cached(self, stage: str, flag: str) -> dict[str, Any]:
        """Returns the JSON that a stage wrote to what a flag of its command names.

        Raises:
            StoreError: the stage wrote no such file then, or it is not in the cache.
        """
        entry = self.entries[f"{stage}@{self.scenario}"]
        found = re.search(rf"--{flag} (\S+)", entry["cmd"])
        if not found:
            raise StoreError(
                f"{self.name}: was made before there was --{flag} in dvc.yaml. Check it out, then 'isthmus upgrade"
                f" --write' and 'dvc repro report@{self.scenario}'"
            )
        md5 = next(out["md5"] for out in entry["outs"] if out["path"] == found[1])
        file = self.cache / "files" / "md5" / md5[:2] / md5[2:]
        if not file.is_file():
            raise StoreError(
                f"{self.name}: its {found[1]} is not in DVC's cache {self.cache}. Fetch it with 'dvc fetch"
                f" --all-commits', or check the revision out and run 'dvc repro report@{self.scenario}'"
            )
        document: dict[str, Any] = read_json(file)
        return document


def read_revision(project: Path, asked: str, scenario: str | None) -> Revision | None:
    """Returns the results of a revision; None where nothing bears this name.

    Args:
        project: its root.
        asked: what git takes as a commit, the name of an experiment, or `workspace`.
        scenario: of which results are meant; None: the only one that there is.

    Raises:
        ConfigError: there are several scenarios and none is named.
        StoreError: it has no results of the scenario.
    """
    commit = _commit(project, asked)
    if not commit:
        return None
    lock, packages = _here(project) if asked == WORKSPACE else _then(project, asked, commit)
    scenario = _scenario(asked, lock, scenario)
    # a method that was dropped keeps its entry
    methods = set(lock[f"select@{scenario}"]["params"]["params.yaml"]["methods"])
    trained = {name: name.removeprefix(f"train@{scenario}-") for name in lock}
    kept = {name: lock[name] for name, method in trained.items() if name != CODE and method in {name, *methods}}
    cache = project / run_dvc(project, "cache", "dir").strip()
    return Revision(asked, commit, scenario, ancestors(kept, f"report@{scenario}"), packages, cache)


def _commit(project: Path, asked: str) -> str:
    """Returns the commit of a revision or an experiment, empty where there is none."""
    for line in run_git(project, "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").splitlines():
        commit, _, name = line.partition(" ")
        if name.rpartition("/")[2] == asked:
            return commit
    try:
        wanted = "HEAD" if asked == WORKSPACE else asked
        return run_git(project, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{wanted}^{{commit}}")
    except StoreError:
        return ""


def _then(project: Path, asked: str, commit: str) -> tuple[dict[str, dict[str, Any]], str]:
    place = run_git(project, "rev-parse", "--show-prefix")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "dvc.lock"
        try:
            file.write_text(run_git(project, "show", f"{commit}:{place}dvc.lock"), encoding="utf-8")
        except StoreError:
            raise StoreError(
                f"{asked}: commit {commit[:_SHOWN]} has no dvc.lock, so no results. Commit dvc.lock"
            ) from None
        lock: dict[str, dict[str, Any]] = read_yaml(file).get("stages") or {}
    try:
        # git's output comes without the newline at its end
        packages = sha256_bytes(f"{run_git(project, 'show', f'{commit}:{place}{REQUIREMENTS}')}\n".encode())
    except StoreError:
        packages = ""
    return lock, packages


def _here(project: Path) -> tuple[dict[str, dict[str, Any]], str]:
    requirements = project / REQUIREMENTS
    return read_lock(project), sha256_file(requirements) if requirements.exists() else ""


def _scenario(asked: str, lock: Mapping[str, Any], scenario: str | None) -> str:
    there = sorted(name.partition("@")[2] for name in lock if name.startswith("report@"))
    if scenario is None and len(there) == 1:
        return there[0]
    if scenario is None and there:
        raise ConfigError(f"{asked}: has results of {', '.join(there)}. Name one: --scenario {there[0]}")
    if scenario not in there:
        what = f"of scenario '{scenario}'" if scenario else "of any scenario"
        raise StoreError(f"{asked}: its dvc.lock has no report {what}. There are: {', '.join(there) or 'none'}")
    return str(scenario)

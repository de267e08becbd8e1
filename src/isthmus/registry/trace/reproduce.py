"""Reproduces a registered model's results: same tree, data by md5, every stage run again, numbers compared."""

import os
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from isthmus.core.code import code_lock
from isthmus.core.errors import StoreError
from isthmus.core.files import read_json, sha256_file, write_json
from isthmus.core.process.children import run_child
from isthmus.core.progress import log
from isthmus.registry.lineage.dvc_remote import given_labels
from isthmus.registry.lineage.git import run_git, run_git_away
from isthmus.registry.lineage.lineage import REQUIREMENTS, Lineage, read_lineage
from isthmus.registry.lineage.worktrees import checked_out
from isthmus.registry.publish.run_contents import numbers
from isthmus.registry.store.stores import open_store
from isthmus.registry.trace.trace import Version, fetched, find_version

REPORTS = Path(".isthmus") / "reproduced"
TOLERANCE = 0.005  # of a number, in its own unit, or of its size where that is above one


@dataclass(frozen=True)
class Comparison:
    """One number: as it was recorded and as it came out again; None where one side does not have it."""

    name: str
    recorded: float | None
    again: float | None
    same: bool


@dataclass(frozen=True)
class Reproduction:
    """What came out.

    Attributes:
        model: registered name.
        version: its number.
        snapshot: commit of the tree that ran, then and now.
        raw_md5: of the raw data, as recorded and as it was found.
        outputs: how many outputs of the graph there are, and how many are the same bytes.
        numbers: every number of `metrics.json` and `truth.json`.
        notes: what may explain a difference.
    """

    model: str
    version: str
    snapshot: str
    raw_md5: tuple[str, str]
    outputs: tuple[int, int]
    numbers: list[Comparison]
    notes: list[str]

    @property
    def reproduced(self) -> bool:
        """Says whether it is the same data and every number lies within the tolerance."""
        return self.raw_md5[0] == self.raw_md5[1] and all(number.same for number in self.numbers)

    def as_json(self) -> dict[str, Any]:
        """Returns all of it as JSON types."""
        return asdict(self) | {"reproduced": self.reproduced}

    def text(self) -> str:
        """Returns the comparison for a person: one line a number, then the verdict."""
        width = max(len(number.name) for number in self.numbers)
        rows = [
            f"{n.name:<{width}}  {_shown(n.recorded)}  {_shown(n.again)}  {'' if n.same else 'DIFFERS'}".rstrip()
            for n in self.numbers
        ]
        total, same = self.outputs
        differ = sum(not number.same for number in self.numbers)
        verdict = "reproduced" if self.reproduced else f"NOT reproduced: {differ} of {len(self.numbers)} numbers differ"
        data = "the same raw data" if self.raw_md5[0] == self.raw_md5[1] else "OTHER raw data"
        last = f"{self.model} {self.version}: {verdict}; {data}; {same} of {total} outputs are the same bytes"
        return "\n".join([f"{'':<{width}}  {'recorded':>10}  {'again':>10}", *rows, *self.notes, last])


def reproduce(project: Path, asked: str, tolerance: float = TOLERANCE) -> Reproduction:
    """Makes the results of a version again and compares them with what its run recorded.

    Args:
        project: its root, in the repository that holds the snapshot.
        asked: as for `trace`.
        tolerance: of each number, in its own unit (of its size where that is above one).

    Raises:
        StoreError: there is no such version, its snapshot or its data cannot be had, or a stage failed.
    """
    project, store = project.resolve(), open_store(project)
    version = find_version(store, asked)
    with tempfile.TemporaryDirectory() as folder:
        lineage, metrics, truth = (
            read_json(fetched(store, version, name, Path(folder)))
            for name in ("lineage.json", "metrics.json", "truth.json")
        )
    recorded = numbers(metrics) | numbers({"truth": truth})
    _have_commit(project, lineage["snapshot"])
    with checked_out(project, lineage["snapshot"], version.model_id) as tree:
        if difference := code_lock.other_package(tree / code_lock.NAME):
            raise StoreError(
                f"{version.model} {version.number}: its results were made by {difference}. To reproduce them, install"
                " that one"
            )
        _bring_data(project, tree, lineage)
        log(f"reproduce: running every stage of report@{lineage['scenario']} in {tree}")
        _run(tree, "repro", "--force", "--no-run-cache", f"report@{lineage['scenario']}")
        again = read_lineage(tree, lineage["scenario"])
        found = _compared(version, lineage, recorded, again, tolerance, _notes(project, tree, lineage))
    write_json(project / REPORTS / f"{version.model_id}.json", found.as_json())
    return found


def _compared(
    version: Version, lineage: dict[str, Any], recorded: dict[str, float], again: Lineage, tolerance: float,
    notes: list[str],
) -> Reproduction:  # fmt: skip
    now = numbers(read_json(again.path("evaluate", "metrics")))
    now |= numbers({"truth": read_json(again.path("evaluate", "truth"))})
    compared = [compare(name, recorded.get(name), now.get(name), tolerance) for name in sorted(recorded | now)]
    before, after = _outputs(lineage["lock_entries"]), _outputs(again.entries)
    same = sum(after.get(path) == md5 for path, md5 in before.items())
    return Reproduction(
        version.model, version.number, lineage["snapshot"], (lineage["raw"]["md5"], again.raw[1]), (len(before), same),
        compared, notes,
    )  # fmt: skip


def compare(name: str, recorded: float | None, again: float | None, tolerance: float) -> Comparison:
    """Compares one number; one that only one side has differs.

    >>> compare("accuracy", 0.5, 0.504, 0.005).same
    True
    """
    if recorded is None or again is None:
        return Comparison(name, recorded, again, False)
    return Comparison(name, recorded, again, abs(recorded - again) <= tolerance * max(1.0, abs(recorded)))


def _have_commit(project: Path, snapshot: str) -> None:
    for remote in ["", *run_git(project, "remote").split()]:
        try:
            if remote:
                run_git_away(project, "fetch", "--quiet", "--no-tags", remote, f"refs/isthmus/{snapshot}")
            run_git(project, "cat-file", "-e", f"{snapshot}^{{commit}}")
        except StoreError:
            continue
        return
    raise StoreError(
        f"commit {snapshot}: not in this repository and in none of its remotes. Fetch 'refs/isthmus/*' from the"
        " repository that published the model"
    )


def _bring_data(project: Path, tree: Path, lineage: dict[str, Any]) -> None:
    """Gives the worktree the project's cache and remotes, and the raw images that no stage makes."""
    if not (tree / ".dvc").is_dir():
        raise StoreError(f"{lineage['snapshot']}: its tree has no .dvc folder, so DVC cannot run it. Commit '.dvc'")
    for name in ("config", "config.local"):  # remotes as they are now: one may have been added since, or moved
        if (project / ".dvc" / name).exists():
            shutil.copy(project / ".dvc" / name, tree / ".dvc" / name)
    _run(tree, "config", "--local", "cache.dir", _run(project, "cache", "dir", quiet=True).strip())
    labels = given_labels(lineage["lock_entries"], lineage["scenario"])
    if labels:
        (tree / labels).parent.mkdir(parents=True, exist_ok=True)  # git keeps no empty folder
        if (tree / f"{labels}.dvc").is_file():
            _bring(tree, f"{labels}.dvc")
    raw = lineage["raw"]["path"]
    if raw in _outputs(lineage["lock_entries"]):
        return  # a stage makes it
    pointer = f"{raw}.dvc"
    if not (tree / pointer).is_file():
        raise StoreError(
            f"{raw}: DVC hashed the raw images of this model and never stored them, so they cannot be fetched by md5."
            f" Version them from now on: 'dvc add {raw}', then publish again"
        )
    _bring(tree, pointer)


def _bring(tree: Path, pointer: str) -> None:
    try:
        _run(tree, "checkout", "--quiet", pointer, quiet=True)
    except StoreError:
        _run(tree, "pull", "--quiet", pointer)


def _outputs(entries: dict[str, Any]) -> dict[str, str]:
    return {out["path"]: out["md5"] for entry in entries.values() for out in entry.get("outs", [])}


def _notes(project: Path, tree: Path, lineage: dict[str, Any]) -> list[str]:
    here = project / REQUIREMENTS
    notes = []
    if here.exists() and lineage["requirements_sha256"] not in ("", sha256_file(here)):
        notes.append(f"note: {REQUIREMENTS} was different then; this run used the current packages")
    if not (tree / "src" / "isthmus").is_dir() and not (tree / code_lock.NAME).is_file():
        notes.append("note: the snapshot has no src/isthmus; this run used the installed package")
    return notes


def _run(folder: Path, *arguments: str, quiet: bool = False) -> str:
    """Runs dvc and all its stages so that nothing of them outlives us; the stages import the folder's own code."""
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "DVC_NO_ANALYTICS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    # a hook or a shell inside another repository must not decide which one dvc sees
    environment = {name: value for name, value in environment.items() if not name.startswith("GIT_")}
    done = run_child([sys.executable, "-m", "dvc", *arguments], folder, environment, shown=not quiet)
    if done.status:
        why = f": {' '.join(done.err.split())}" if quiet else ", see above"
        raise StoreError(f"'dvc {' '.join(arguments)}' failed in {folder}{why}")
    return done.out


def _shown(value: float | None) -> str:
    return f"{'-' if value is None else format(value, '.4f'):>10}"

"""A commit of the tree that ran, whatever was committed: tracked files, and what the pipeline needs; nothing else.

Data, models and keys are never taken, whatever git says of them: where the last commit holds such a file already, the
snapshot has it as it is there. `allowed.py` says which files these are.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from isthmus.core.errors import StoreError
from isthmus.core.params.params_copy import NAME, as_started
from isthmus.registry.lineage.git import list_git, run_git
from isthmus.registry.lineage.snapshot_files import may_be_new, needed_files, never_taken, places, raw_pointers

# The snapshot is ours, not the user's: no name or address of a person enters it, and none has to be configured.
_IDENTITY = {f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER") for field, value in
             (("NAME", "isthmus"), ("EMAIL", "isthmus@localhost"))}  # fmt: skip
_SUBMODULE = "160000"  # its mode in git: a commit of another repository, no file


@dataclass(frozen=True)
class Snapshot:
    """Two commits, and what is in neither.

    Attributes:
        commit: the last commit of the branch.
        snapshot: a commit of the working tree; `commit` itself when nothing was changed.
        left_out: files of the project that git does not track and that the snapshot does not hold, from its root.
        refused: changed data, models and keys that git tracks, from the repository's root: the snapshot has them as
            the last commit has them, if at all.
    """

    commit: str
    snapshot: str
    left_out: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def news(self, *, names: bool) -> list[str]:
        """Returns a line for each kind of file that was left out.

        Args:
            names: show some. A file among raw data may be named after a patient, so of what lies outside the folders
                of code only the first folder is shown, and nothing at all where this is False.
        """
        lines = []
        if self.left_out:
            shown = f" ({places(self.left_out)})" if names else ""
            lines.append(
                f"snapshot: untracked files that are not in it: {len(self.left_out)}{shown}. What the results need of"
                " them is put under git with 'git add', images with 'dvc add'"
            )
        if self.refused:
            shown = f" ({places(self.refused)})" if names else ""
            lines.append(
                f"snapshot: data, model or key files in git whose changes are not in it: {len(self.refused)}{shown}."
                " Take such files out of git with 'git rm --cached', and put data under DVC with 'dvc add'"
            )
        return lines


def take_snapshot(project: Path) -> Snapshot:
    """Records the working tree of the project's repository and keeps it under `refs/isthmus/`.

    Index, working tree, branch and stash stay as they are. The same tree on the same commit gives the same id.

    Raises:
        StoreError: the project is in no git repository, or the repository has no commit yet.
    """
    top = Path(run_git(project, "rev-parse", "--show-toplevel"))
    try:
        head = run_git(top, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    except StoreError:
        raise StoreError(
            f"{top}: the repository has no commit yet, so nothing can be traced to it."
            " Run 'git add -A' and 'git commit -m \"first\"'"
        ) from None
    tree, left_out, refused = _tree(top, project.resolve(), head)
    snapshot = head
    if tree != run_git(top, "rev-parse", f"{head}^{{tree}}"):
        date = run_git(top, "show", "-s", "--format=%cI", head)  # not the clock: the same tree is the same commit
        dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        message = ["-p", head, "-m", "isthmus: the tree that ran"]
        snapshot = run_git(top, "commit-tree", "--no-gpg-sign", tree, *message, **_IDENTITY, **dates)
    run_git(top, "update-ref", f"refs/isthmus/{snapshot}", snapshot)
    return Snapshot(head, snapshot, left_out, refused)


def _tree(top: Path, project: Path, head: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Writes the tree and returns its id, the untracked files that it lacks, and the tracked ones that were refused."""
    inside = project.relative_to(top.resolve())
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        own = {"GIT_INDEX_FILE": str(index)}
        present = top / run_git(top, "rev-parse", "--git-path", "index")
        if present.exists():
            # With its own time: git takes a file as new as its index for changed, and a copy that looked newer
            # would hide an edit of the same second and size.
            shutil.copy2(present, index)
        gone, changed = _changes(top, own)
        taken = [path for path in changed if not never_taken(path)]
        pointers = {(inside / path).as_posix() for path in raw_pointers(project)}
        untracked = list_git(project, "ls-files", "-z", "--others", "--exclude-standard", **own)
        needed = [path for path in needed_files(project, untracked) if may_be_new(top, inside / path, pointers)]
        # Plumbing takes paths as they are: no pattern, no rule of .gitignore, no folder with all that is in it.
        _write_entries(top, dict.fromkeys(gone, _nothing(head)), own)
        added = [*taken, *((inside / path).as_posix() for path in needed)]
        list_git(top, "update-index", "-z", "--add", "--remove", "--stdin", given=_lines(added), **own)
        _put_params_of_run(project, inside, top, own)
        refused = _withdraw(top, head, pointers, own) | (set(changed) - set(taken))
        left_out = set(untracked) - set(needed)
        return run_git(top, "write-tree", **own), tuple(sorted(left_out)), tuple(sorted(refused))


def _put_params_of_run(project: Path, inside: Path, top: Path, own: dict[str, str]) -> None:
    """Puts `params.yaml` as the run found it into the tree, where it was edited since."""
    params = project / NAME
    if (copy := as_started(params)) != params:
        blob = run_git(top, "hash-object", "-w", str(copy))
        _write_entries(top, {(inside / NAME).as_posix(): ("100644", blob)}, own)


def _changes(top: Path, own: dict[str, str]) -> tuple[list[str], list[str]]:
    """Returns the tracked paths that are no longer there, and those that may be there with other bytes."""
    listed = list_git(top, "diff-files", "-z", "--no-renames", **own)
    found = {path: facts.rpartition(" ")[2] for facts, path in zip(listed[::2], listed[1::2], strict=True)}
    gone = [path for path, status in found.items() if status == "D" or not os.path.lexists(top / path)]
    return gone, sorted(found.keys() - set(gone))


def _withdraw(top: Path, head: str, pointers: set[str], own: dict[str, str]) -> set[str]:
    """Puts data, models and keys in the index back to what the last commit holds, and returns their paths.

    `git add` may have put them there before us. What was deleted stays deleted: nothing leaks by that.
    """
    listed = list_git(top, "diff-index", "--cached", "-z", "--no-renames", head, **own)
    entries = {}
    for facts, path in zip(listed[::2], listed[1::2], strict=True):
        mode, new_mode, old, _, status = facts.removeprefix(":").split()
        if status == "A" and new_mode != _SUBMODULE and not may_be_new(top, Path(path), pointers):
            entries[path] = _nothing(head)
        elif status not in "AD" and never_taken(path):
            entries[path] = (mode, old)
    _write_entries(top, entries, own)
    return set(entries)


def _write_entries(top: Path, entries: dict[str, tuple[str, str]], own: dict[str, str]) -> None:
    """Sets path -> (mode, id) in the index."""
    lines = _lines([f"{mode} {blob}\t{path}" for path, (mode, blob) in entries.items()])
    list_git(top, "update-index", "-z", "--index-info", given=lines, **own)


def _nothing(head: str) -> tuple[str, str]:
    """Returns the entry that stands for no file, in ids as long as the repository's."""
    return "0", "0" * len(head)


def _lines(values: Sequence[str]) -> str:
    return "".join(f"{value}\0" for value in values)

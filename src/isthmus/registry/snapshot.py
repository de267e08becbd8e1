"""A commit of the very tree that ran, whatever was committed: an uncommitted change is recorded, not forbidden."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from isthmus.core.errors import StoreError
from isthmus.core.params_copy import NAME, as_started

# The snapshot is ours, not the user's: no name or address of a person enters it, and none has to be configured.
_IDENTITY = {f"GIT_{role}_{field}": value for role in ("AUTHOR", "COMMITTER") for field, value in
             (("NAME", "isthmus"), ("EMAIL", "isthmus@localhost"))}  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """Two commits.

    Attributes:
        commit: the last commit of the branch.
        snapshot: a commit of the working tree, untracked files included; `commit` itself when nothing was changed.
    """

    commit: str
    snapshot: str


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
    tree = _tree(project, top)
    snapshot = head
    if tree != run_git(top, "rev-parse", f"{head}^{{tree}}"):
        date = run_git(top, "show", "-s", "--format=%cI", head)  # not the clock: the same tree is the same commit
        dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        snapshot = run_git(
            top, "commit-tree", tree, "-p", head, "-m", "isthmus: the tree that ran", **_IDENTITY, **dates
        )
    run_git(top, "update-ref", f"refs/isthmus/{snapshot}", snapshot)
    return Snapshot(head, snapshot)


def _tree(project: Path, top: Path) -> str:
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        present = top / run_git(top, "rev-parse", "--git-path", "index")
        if present.exists():
            # With its own time: git takes a file as new as its index for changed, and a copy that looked newer
            # would hide an edit of the same second and size.
            shutil.copy2(present, index)
        run_git(top, "add", "--all", "--", ".", GIT_INDEX_FILE=str(index))
        _put_params_of_run(project, top, index)
        return run_git(top, "write-tree", GIT_INDEX_FILE=str(index))


def _put_params_of_run(project: Path, top: Path, index: Path) -> None:
    """Puts `params.yaml` as the run found it into the tree, where it was edited since."""
    params = project.resolve() / NAME
    if (copy := as_started(params)) != params:
        blob = run_git(top, "hash-object", "-w", str(copy))
        place = params.relative_to(top.resolve()).as_posix()
        run_git(top, "update-index", "--cacheinfo", f"100644,{blob},{place}", GIT_INDEX_FILE=str(index))


def run_git(folder: Path, *arguments: str, **extra: str) -> str:
    """Runs git in a folder, with more variables of the environment, and returns its output.

    Raises:
        StoreError: git is not installed, the folder is in no repository, or git failed.
    """
    # A git hook that calls us sets GIT_DIR and friends, which would point at another index or tree.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | extra
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except FileNotFoundError:
        raise StoreError("git is not installed, and a model is traced to a commit. Install git") from None
    if done.returncode:
        if "not a git repository" in done.stderr:
            raise StoreError(f"{folder}: not in a git repository, so nothing can be traced. Run 'git init' and commit")
        raise StoreError(f"'git {' '.join(arguments)}' failed in {folder}: {' '.join(done.stderr.split())}")
    return done.stdout.strip()

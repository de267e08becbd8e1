"""A commit of the project in a folder of its own, which is gone afterwards; what killed processes left goes first."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from isthmus.core.errors import StoreError
from isthmus.core.process.children import ended_in_order
from isthmus.core.progress import log
from isthmus.registry.lineage.git import run_git
from isthmus.registry.store.locks import exclusive

FOLDER = Path(".isthmus") / "worktrees"
LOCKS = Path(".isthmus") / "locks"  # never removed: who waits for a lock has its file open


@contextmanager
def checked_out(project: Path, commit: str, name: str) -> Iterator[Path]:
    """Yields the project's folder as it was at a commit, in a worktree that errors, Ctrl-C and SIGTERM remove.

    Args:
        project: its root.
        commit: in the project's repository.
        name: of the worktree; two processes cannot have the same at once.

    Raises:
        StoreError: another process has a worktree of this name, or git failed.
    """
    project = project.resolve()
    top = Path(run_git(project, "rev-parse", "--show-toplevel")).resolve()
    place = project / FOLDER / name
    _sweep(project)
    with ended_in_order(), exclusive(_lock(project, name), f"the worktree {place}", patience=1.0):
        _remove(project, place)
        try:
            # twice: a worktree whose making was killed is locked in git's list
            run_git(project, "worktree", "add", "--force", "--force", "--quiet", "--detach", str(place), commit)
            yield place / project.relative_to(top)
        finally:
            _remove(project, place)


def _sweep(project: Path) -> None:
    """Removes worktrees of dead processes, whose locks are free."""
    for place in (project / FOLDER).glob("*"):
        with suppress(StoreError), exclusive(_lock(project, place.name), "sweeping", patience=0.0):
            _remove(project, place)
            log(f"removed {place}, which a killed process left")


def _remove(project: Path, place: Path) -> None:
    with suppress(StoreError):
        run_git(project, "worktree", "unlock", str(place))
    shutil.rmtree(place, ignore_errors=True)
    run_git(project, "worktree", "prune")


def _lock(project: Path, name: str) -> Path:
    return project / LOCKS / f"worktree-{name}.lock"

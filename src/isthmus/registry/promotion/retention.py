"""Keeps what a champion was made from: its commit under a git tag, its data in the DVC remote."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isthmus.core.errors import StoreError
from isthmus.core.progress import log
from isthmus.registry.lineage.dvc_remote import default_remote, kept_data, lend_pointer
from isthmus.registry.lineage.git import run_git
from isthmus.registry.lineage.git_remote import push, snapshot_remote
from isthmus.registry.lineage.lineage import run_dvc
from isthmus.registry.lineage.worktrees import checked_out
from isthmus.registry.store.tracking import Store

SNAPSHOT = "isthmus.snapshot"  # tag of a version: the commit of the tree that ran


def protect(project: Path, store: Store, scenario: str, model: str, version: str) -> None:
    """Sees to it that a version can be traced and made again when it is champion; doing it twice is doing it once.

    Its data must be in the DVC remote, and its snapshot commit gets a tag `isthmus/<model>/v<version>`, which is pushed
    to the git remote that `lineage.git_remote` names. Without a remote it says that they are kept locally only.

    Raises:
        StoreError: the commit or data is not there, the tag is taken, or a remote does not answer.
    """
    commit = store.version_tags(model, version).get(SNAPSHOT)
    what = f"{model} version {version}"
    if not commit:
        raise StoreError(f"{what}: no snapshot is recorded, so it cannot be traced. Run 'isthmus publish {scenario}'")
    try:
        run_git(project, "cat-file", "-e", f"{commit}^{{commit}}")
    except StoreError:
        raise StoreError(
            f"{what}: its commit {commit[:12]} is not in this repository. Fetch it from where it was published:"
            " git fetch REMOTE 'refs/isthmus/*:refs/isthmus/*'"
        ) from None
    kept = [
        _checked_data(project, commit, scenario, what),
        _tagged(project, commit, f"isthmus/{model}/v{version}", what),
    ]
    log(f"{what}: {'; '.join(kept)}")


def _checked_data(project: Path, commit: str, scenario: str, what: str) -> str:
    remote = default_remote(project)
    if not remote:
        return "data: local only (no DVC remote)"
    with _checkout(project, commit, remote) as tree:
        lend_pointer(project, tree, scenario)
        kept = kept_data(tree, scenario)
    if kept.unversioned:
        raise StoreError(
            f"{what}: its raw images {kept.unversioned} are not versioned, so nothing could be reproduced from the"
            f" DVC remote '{remote}'. Run 'dvc add {kept.unversioned}' and 'dvc push {kept.unversioned}.dvc', then the"
            " same command again"
        )
    if kept.missing:
        missing = kept.missing
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        hint = (
            " Some are not in this machine's cache either: push from the machine that made them." if kept.lost else ""
        )
        commands = " and ".join(f"'{command}'" for command in kept.push)
        raise StoreError(
            f"{what}: {len(missing)} files of its snapshot {commit[:12]} are not in the DVC remote '{remote}'"
            f" ({shown}).{hint} Run {commands}, then the same command again"
        )
    return f"data: in the DVC remote '{remote}'"


@contextmanager
def _checkout(project: Path, commit: str, remote: str) -> Iterator[Path]:
    """Yields the project as it was at a commit, with today's remotes and the project's own cache."""
    with checked_out(project, commit, f"protect-{commit[:12]}") as place:
        for name in ("config", "config.local"):  # the remote may be younger than the commit
            if (project / ".dvc" / name).exists():
                shutil.copy(project / ".dvc" / name, place / ".dvc" / name)  # with its rights: it may hold a password
        run_dvc(place, "config", "--local", "cache.dir", run_dvc(project, "cache", "dir").strip())
        url = run_dvc(project, "config", f"remote.{remote}.url").strip()
        run_dvc(place, "config", "--local", f"remote.{remote}.url", url)  # absolute: it may have been relative
        yield place


def _tagged(project: Path, commit: str, tag: str, what: str) -> str:
    # of a tag with a message, which a signature needs, the commit that it stands on
    commit_of = "--format=%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)"
    there = run_git(project, "for-each-ref", commit_of, f"refs/tags/{tag}")
    if there and there != commit:
        raise StoreError(
            f"{what}: the tag {tag} is on commit {there[:12]}, the version is of {commit[:12]}: another store had"
            f" a version of this number. Rename it: git tag {tag}-old {there[:12]} && git tag --delete {tag}"
        )
    if not there:
        # not 'git tag': a user's settings may make it sign, which asks for a password
        run_git(project, "update-ref", f"refs/tags/{tag}", commit, "0" * len(commit))
    remote = snapshot_remote(project)
    if not remote:
        return f"commit: tag {tag}, local only (lineage.git_remote in params.yaml names no git remote)"
    try:
        push(project, remote, f"refs/tags/{tag}")
    except StoreError as error:
        raise StoreError(
            f"{what}: nothing was promoted: the tag could not be pushed: {error}."
            f" Run 'git push {remote} {tag}', then the same command again"
        ) from None
    return f"commit: tag {tag}, pushed to '{remote}'"

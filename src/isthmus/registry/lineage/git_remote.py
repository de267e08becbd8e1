"""Which git remote must hold the snapshots, if any: the project's setting, and all that is done with that remote.

Nothing is pushed to a remote that `params.yaml` does not name: a clone often has an `origin` to which its user has no
right, or that is public.
"""

from pathlib import Path

from pydantic import Field

from isthmus.core.config import Config, load_params
from isthmus.core.errors import ConfigError, StoreError
from isthmus.core.plugins import did_you_mean
from isthmus.core.progress import log
from isthmus.registry.lineage.git import run_git, run_git_away


class LineageConfig(Config):
    """Where what a model is traced to has to be, beside this machine."""

    git_remote: str | None = Field(
        None, description="name of the git remote that holds every snapshot; null: they stay in this repository"
    )


class LineageParams(Config):
    """The section of `params.yaml`; a project without it keeps its snapshots to itself."""

    lineage: LineageConfig = LineageConfig()


def snapshot_remote(project: Path) -> str:
    """Returns the name of the git remote that the project's settings name, empty where they name none.

    Raises:
        ConfigError: the setting is wrong, or there is no such remote.
    """
    params = project / "params.yaml"
    named = load_params(LineageParams, params, {}).lineage.git_remote if params.exists() else None
    if named is None:
        return ""
    remotes = run_git(project, "remote").split()
    if named not in remotes:
        raise ConfigError(
            f"{params}: lineage.git_remote: there is no git remote '{named}'.{did_you_mean(named, remotes)} There are:"
            f" {', '.join(remotes) or 'none'}. Add it with 'git remote add {named} ADDRESS', or set it to null"
        )
    return named


def keep_snapshot(project: Path, snapshot: str) -> None:
    """Pushes a snapshot to the remote that the settings name; where that fails, the gate's rule says so again.

    Raises:
        ConfigError: as `snapshot_remote`.
    """
    remote, reference = snapshot_remote(project), f"refs/isthmus/{snapshot}"
    if not remote:
        return
    try:
        push(project, remote, reference)
        log(f"snapshot: pushed to '{remote}'")
    except StoreError as error:
        log(
            f"snapshot: not pushed to '{remote}', which params.yaml names: {error}."
            f" Run 'git push {remote} {reference}' before 'isthmus score'"
        )


def push(project: Path, remote: str, reference: str) -> None:
    """Pushes one reference under its own name, and nothing else, whatever git is set to push beside it.

    Raises:
        StoreError: the remote does not answer or does not allow it.
    """
    run_git_away(project, "-c", f"remote.{remote}.mirror=false", "push", "--quiet", remote, f"{reference}:{reference}")


def holds(project: Path, remote: str, commit: str) -> bool:
    """Says whether a commit, or one that came after it, is at the tip of a reference of the remote.

    Raises:
        StoreError: the remote does not answer.
    """
    tips = {line.split("\t")[0] for line in run_git_away(project, "ls-remote", remote).splitlines()}
    return commit in tips or any(_leads_to(project, commit, tip) for tip in tips)


def _leads_to(project: Path, commit: str, tip: str) -> bool:
    try:  # a tip that was never fetched cannot be looked into; it then does not count
        return run_git(project, "merge-base", commit, tip) == commit
    except StoreError:
        return False

"""Runs git for ourselves: nothing in the user's settings may make it sign, edit, page, ask, run a hook, or hang."""

import os
import subprocess
from pathlib import Path

from isthmus.core.addresses import without_passwords
from isthmus.core.errors import StoreError
from isthmus.core.process.children import Ended, run_child

SECONDS = 300.0  # [s] for a command on this machine; a filter of a large tree may take a while
SECONDS_AWAY = 120.0  # [s] for one that contacts a remote

# What these settings switch off is the user's own affair in the user's own commands. A hook or a signature would run
# programs that know nothing of ours, `followTags` would push tags that nobody named.
_SETTINGS = {
    "core.hooksPath": os.devnull, "core.fsmonitor": "false", "core.editor": "true", "core.pager": "cat",
    "core.askPass": "", "credential.interactive": "false", "commit.gpgSign": "false", "tag.gpgSign": "false",
    "push.gpgSign": "false", "push.followTags": "false", "push.recurseSubmodules": "no", "submodule.recurse": "false",
    "fetch.recurseSubmodules": "no", "log.showSignature": "false", "gc.auto": "0", "maintenance.auto": "false",
}  # fmt: skip
_OPTIONS = [word for key, value in _SETTINGS.items() for word in ("-c", f"{key}={value}")]
# English, since messages are looked at; an empty program to ask with means that none is started.
_ENVIRONMENT = {
    "LC_ALL": "C", "LANGUAGE": "", "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS": "",
    "SSH_ASKPASS_REQUIRE": "never", "GCM_INTERACTIVE": "never", "GIT_EDITOR": "true", "GIT_PAGER": "cat",
    "GIT_OPTIONAL_LOCKS": "0",
}  # fmt: skip
# What stays of the variables named GIT_...: how to reach a remote. A hook that calls us sets GIT_DIR and its like, and
# they would point at another index or tree.
_KEPT = ("GIT_SSH", "GIT_SSL", "GIT_PROXY", "GIT_HTTP", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM")


def run_git(folder: Path, *arguments: str, **extra: str) -> str:
    """Runs git in a folder, with more variables of the environment, and returns its output.

    Raises:
        StoreError: git is not installed, the folder is in no repository, or git failed or took too long.
    """
    return _run(folder, arguments, extra, "", away=False).strip()


def run_git_away(folder: Path, *arguments: str) -> str:
    """As `run_git`, for commands that contact a remote: no password prompt, limited time.

    Raises:
        StoreError: as there.
    """
    return _run(folder, arguments, {}, "", away=True).strip()


def list_git(folder: Path, *arguments: str, given: str = "", **extra: str) -> list[str]:
    """Runs a command that separates what it lists by NUL (`-z`) and returns the list; `given` is its standard input.

    Raises:
        StoreError: as `run_git`.
    """
    return [name for name in _run(folder, arguments, extra, given, away=False).split("\0") if name]


def _run(folder: Path, arguments: tuple[str, ...], extra: dict[str, str], given: str, *, away: bool) -> str:
    own = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k.startswith(_KEPT)}
    seconds = SECONDS_AWAY if away else SECONDS
    command, shown = ["git", *_OPTIONS, "-C", str(folder), *arguments], f"'git {' '.join(arguments)}'"
    try:
        done = run_child(command, Path("/"), own | _ENVIRONMENT | extra, given=given, seconds=seconds, watched=away)
    except FileNotFoundError:
        raise StoreError("git is not installed, and a model is traced to a commit. Install git") from None
    except subprocess.TimeoutExpired:
        raise StoreError(
            f"{shown} in {folder} took longer than {seconds:.0f} s and was stopped: a remote that does not answer, or a"
            " program in git's settings that waits? Run it by hand, then the same command again"
        ) from None
    if done.status:
        raise _failure(folder, shown, done)
    return done.out


def _failure(folder: Path, shown: str, done: Ended) -> StoreError:
    if "not a git repository" in done.err:
        return StoreError(f"{folder}: not in a git repository, so nothing can be traced. Run 'git init' and commit")
    return StoreError(f"{shown} failed in {folder}: {without_passwords(' '.join(done.err.split()))}")

"""Runs one stage as `dvc --wait-for-lock repro -s ADDRESS` in a child process and returns what became of it.

Call it in graph order only: `-s` does not look at what comes before the stage. dvc ends with 255 whatever went wrong,
so the verdict is read from its words. The child runs under
`core/process/supervisor.py`: after a kill no process lives on.
"""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from isthmus.core.process import supervisor
from isthmus.core.process.dvc_process import DVC
from isthmus.core.process.failures import trouble_in
from pipelines.leftovers import clear_leftovers, clear_stale_locks

Verdict = Literal["done", "cached", "busy", "transient", "mistake", "timeout", "failed"]
Say = Callable[[str], None]

_lifelines: set[IO[str]] = set()  # of the commands that run
_LAST_LINES = 15  # of a crashed stage's output, shown again with the error
_CACHED = ("didn't change, skipping", "is cached - skipping run")
# dvc's advice after each stage, seven lines of it: what the flow itself sees to, or says once at the end.
_ADVICE = (
    "Generating lock file",
    "Updating lock file",
    "To track the changes with git, run:",
    "git add ",
    "To enable auto staging, run:",
    "dvc config core.autostage",
    "Use `dvc push`",
    "Having any troubles?",
    "> python -m isthmus.",  # the stage's own command, hundreds of characters that stand in dvc.yaml
)
_EMPTY = re.compile(r"WARNING: '.*' is empty\.")  # a folder of masks, where a task has none
_BUSY = ("is busy, it is being blocked by", "Unable to acquire lock")
# What dvc itself may meet once and not again: its own SQLite index under parallel calls, and the way to a remote.
_TRANSIENT = ("database is locked", "Temporary failure in name resolution", "Connection reset by peer")


@dataclass(frozen=True)
class Outcome:
    """What became of one stage.

    Attributes:
        verdict: `done` it ran; `cached` nothing to do; `busy` another process works on the same files and
            `transient` worth another try; `mistake` the user's, `timeout`, `failed` final.
        message: what a person should read; empty when all is well.
        seconds: wall time [s].
    """

    verdict: Verdict
    message: str
    seconds: float


def run_stage(
    project: Path, address: str, say: Say, timeout: float | None = None, extra: Mapping[str, str] | None = None
) -> Outcome:
    """Runs one stage and hands each line of its output to `say` as it comes.

    Args:
        project: folder with `dvc.yaml`.
        address: such as `train@steel-coral`.
        say: is called from this thread.
        timeout: after this time the stage is stopped [s]; None: never.
        extra: more variables of the stage's environment.
    """
    _cleared(clear_stale_locks, project, say)
    command = [*DVC, "--wait-for-lock", "repro", "-s", address]
    start = time.monotonic()
    status, lines = run_command(project, command, lambda line: None if is_advice(line) else say(line), timeout, extra)
    seconds = time.monotonic() - start
    if status != 0:
        _cleared(clear_leftovers, project, say)  # of a dvc that was killed just now
    if status is None:
        return Outcome(
            "timeout", f"{address}: stopped after {timeout:g} s (--timeout); no partial files are left", seconds
        )
    return Outcome(*read_verdict(address, status, lines), seconds)


def is_advice(line: str) -> bool:
    """Says whether a line of dvc's output is its general advice, or empty.

    >>> is_advice("        git add dvc.lock"), is_advice("train: epoch 3 of 20")
    (True, False)
    """
    return not line.strip() or line.strip().startswith(_ADVICE) or _EMPTY.fullmatch(line.strip()) is not None


def _cleared(clear: Callable[[Path], list[str]], project: Path, say: Say) -> None:
    for line in clear(project):
        say(f"cleared: {line}")


def run_command(
    project: Path,
    command: Sequence[str],
    say: Say,
    timeout: float | None = None,
    extra: Mapping[str, str] | None = None,
) -> tuple[int | None, list[str]]:
    """Runs a command under a supervisor; returns its exit status (None: timed out) and its lines of output."""
    process = subprocess.Popen(
        [sys.executable, "-P", supervisor.__file__, *command],
        cwd=project,
        env=child_environment() | dict(extra or {}),
        stdin=subprocess.PIPE,  # the lifeline: nothing is written, its end signals the supervisor that we are gone
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert process.stdin and process.stdout
    late = threading.Event()
    lifeline = process.stdin
    _lifelines.add(lifeline)

    def cut() -> None:
        late.set()
        lifeline.close()

    clock = threading.Timer(timeout, cut) if timeout is not None else None
    lines: list[str] = []
    try:
        if clock:
            clock.start()
        for line in process.stdout:
            lines.append(line.rstrip())
            say(lines[-1])
        status = process.wait()
    finally:
        if clock:
            clock.cancel()
            clock.join()
        _lifelines.discard(lifeline)
        lifeline.close()
        process.wait()  # the supervisor returns when the last descendant is gone
        process.stdout.close()
    return (None if late.is_set() else status), lines


def end_commands() -> None:
    """Ends all that other threads run here: Python waits for its threads, and they would wait for their stages."""
    for lifeline in list(_lifelines):
        lifeline.close()


def child_environment() -> dict[str, str]:
    """Returns the environment of every child: that of `pipelines`, unbuffered, this Python's programs first."""
    here = str(Path(sys.executable).parent)
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PATH")])])
    return dict(os.environ) | {"PATH": path, "PYTHONUNBUFFERED": "1"}


def read_verdict(address: str, status: int, lines: Sequence[str]) -> tuple[Verdict, str]:
    """Returns verdict and message from dvc's exit status and output.

    >>> read_verdict("a", 0, ["Stage 'a' didn't change, skipping"])
    ('cached', '')
    >>> read_verdict("a", 255, ["error: params.yaml: no", "ERROR: failed to reproduce 'a': x, exited with 2"])
    ('mistake', 'params.yaml: no')
    """
    if status == 0:
        return ("cached" if any(sign in line for line in lines for sign in _CACHED) else "done"), ""
    cut = next((i for i, line in enumerate(lines) if line.startswith("ERROR: ")), len(lines))
    stage_said = [line for line in lines[:cut] if not is_advice(line)]
    dvc_said = "\n".join(line for line in lines[cut:] if not is_advice(line)).removeprefix("ERROR: ").strip()
    if any(sign in dvc_said for sign in _BUSY):
        return "busy", f"{address}: {dvc_said}"
    if any(sign in dvc_said for sign in _TRANSIENT):
        return "transient", f"{address}: {dvc_said}"
    if own := last_error(stage_said):
        mistake = re.search(r"exited with 2\b", dvc_said) is not None
        return ("mistake", own) if mistake else ("failed", f"{address}: {own}")
    if trouble := trouble_in(dvc_said):
        return "failed", f"{address}: {trouble}"
    own_lines = [line for line in stage_said if not line.startswith(("Running stage '", "> "))]
    said = "\n".join(f"    {line}" for line in own_lines[-_LAST_LINES:])
    last = f"\n  the last lines of its output:\n{said}" if said else ""
    return "failed", f"{address}: {_reason(status, dvc_said)}{last}"


def last_error(lines: Sequence[str]) -> str:
    """Returns the message with which a stage ended in its own words, empty where it ended otherwise."""
    first = max((i for i, line in enumerate(lines) if line.startswith("error: ")), default=None)
    if first is None or any(line.startswith("Traceback (most recent call last)") for line in lines[first:]):
        return ""
    return "\n".join(lines[first:]).removeprefix("error: ").strip()


def _reason(status: int, dvc_said: str) -> str:
    if exited := re.search(r"failed to run: (?:.|\n)*, exited with (-?\d+)", dvc_said):
        number = int(exited.group(1))
        if number in (-9, 137):
            return "was killed, probably out of memory"
        return f"ended by signal {-number}" if number < 0 else f"ended with status {number}"
    return dvc_said or f"dvc ended with status {status} without output (killed, or out of memory?)"

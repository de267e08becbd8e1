"""Child processes that end with their owner, in whatever way it ends, and that cannot ask anybody anything."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from isthmus.core.process import lifeline

_STOP = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Ended:
    """How a child ended: exit status (128 + signal where one ended it) and what it wrote."""

    status: int
    out: str
    err: str


def run_child(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *,
    given: str = "",
    seconds: float | None = None,
    shown: bool = False,
    progress: bool = False,
    watched: bool = True,
) -> Ended:
    """Runs a command to its end in a session of its own: without a terminal no password is asked for, no editor opened.

    All processes of its group are gone when this returns, by an exception or a signal too.

    Args:
        command: program and arguments.
        folder: where it runs.
        environment: all of it; None: this process's.
        given: its standard input.
        seconds: after this time it is killed [s]; None: never.
        shown: its output goes to standard error in place of the answer.
        progress: its standard output alone goes there: it prints how far it is.
        watched: also kill the group when this process is killed; costs the start of a small Python.

    Raises:
        FileNotFoundError: there is no such program.
        subprocess.TimeoutExpired: it took too long.
    """
    environment = os.environ if environment is None else environment
    program = shutil.which(command[0], path=environment.get("PATH"))
    if program is None:
        raise FileNotFoundError(command[0])
    command = [program, *command[1:]]
    read, write = _pipe()
    if watched:
        command = [sys.executable, "-I", "-S", lifeline.__file__, str(read), *command]
    out_to, err_to = (2 if here else subprocess.PIPE for here in (shown or progress, shown))
    with tempfile.TemporaryFile() as words:
        words.write(given.encode(errors="surrogateescape"))
        words.seek(0)
        try:
            child = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=words, stdout=out_to, stderr=err_to, start_new_session=True,
                pass_fds=[read] if watched else [], text=True, encoding="utf-8", errors="surrogateescape",
            )  # fmt: skip
        except BaseException:
            os.close(write)
            raise
        finally:
            os.close(read)
    with child:
        try:
            out, err = child.communicate(timeout=seconds)
        finally:
            os.close(write)
            with suppress(ProcessLookupError, PermissionError):  # macOS answers so of a group of zombies
                os.killpg(child.pid, signal.SIGKILL)
    status = child.returncode
    return Ended(status if status >= 0 else 128 - status, out or "", err or "")


def _pipe() -> tuple[int, int]:
    """Returns the ends of a pipe above the numbers 0 to 2, which a child has for itself; we may be started without."""
    low = os.pipe()
    read, write = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in low)
    for end in low:
        os.close(end)
    return read, write


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Turns SIGTERM and SIGHUP into SystemExit for the length of the block, so that `finally` blocks run.

    Elsewhere than in the main thread, where signals cannot be caught, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        for other in _STOP:
            signal.signal(other, signal.SIG_IGN)  # a second one must not break off the cleaning up
        raise SystemExit(128 + number)

    # what `nohup` has switched off stays off
    before = {number: signal.signal(number, end) for number in _STOP if signal.getsignal(number) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

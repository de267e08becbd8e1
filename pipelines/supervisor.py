"""Runs one program so that nothing of it outlives its owner, whoever is killed and in whatever way.

    owner ==lifeline==> supervisor ==pipe==> watchdog
                            '--> program --> its children and grandchildren

The lifeline is a pipe whose other end only the owner holds: it ends when the owner ends, even by SIGKILL.

| who dies | who notices | what happens |
| --- | --- | --- |
| owner | supervisor, by the end of the lifeline (without one: its parent's id changes) | descendants: INT, TERM, KILL |
| supervisor asked to stop (TERM, INT, HUP) | itself | the same |
| program, with children left behind | supervisor: it adopts orphans (`PR_SET_CHILD_SUBREAPER`) | the same |
| supervisor, by SIGKILL | watchdog, by the end of its pipe | KILL to the whole process group |

INT comes first because Python then runs its `finally` blocks: half-written files and dvc's locks are cleared away.
A descendant that leads a session of its own is another supervisor: it is told alone, and tells its own.
`PR_SET_PDEATHSIG` alone is not enough: it reaches dvc but not the training that dvc started, and it fires when the
*thread* that started the child ends. Adopting orphans and walking `/proc` need Linux; elsewhere the process group goes.
"""

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

_PR_SET_CHILD_SUBREAPER = 36
_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SECONDS_BETWEEN_LOOKS = 0.5  # at the parent's id; everything else wakes the supervisor at once


def supervise(program: Callable[[], int], lifeline: int | None = None, grace: float = 2.0) -> int:
    """Forks, runs `program` in the child and returns its exit status; 128 + signal when one ended it.

    Call it from the main thread, before any other thread runs. In the child `program` may replace the process
    (`os.execvp`) or return its exit status; standard input is empty there.

    Args:
        program: what to run.
        lifeline: file descriptor whose end means that the owner is gone; None: watch the parent's id.
        grace: time between INT and TERM, and between TERM and KILL [s].
    """
    owner = os.getppid()
    _adopt_orphans()
    watchdog, pipe = _start_watchdog()
    asked: list[int] = []
    wake = _wake_on_signals(asked)
    child = os.fork()
    if child == 0:
        os.close(pipe)  # else the watchdog would wait for the program, not for the supervisor
        _become_program(watchdog)
        sys.exit(program())
    status: int | None = None
    try:
        while status is None and not asked:
            watched = [wake] if lifeline is None else [wake, lifeline]
            readable = select.select(watched, [], [], _SECONDS_BETWEEN_LOOKS)[0]
            if wake in readable:
                os.read(wake, 512)
            status = _reap(child)
            owner_gone = (
                os.getppid() != owner if lifeline is None else lifeline in readable and not os.read(lifeline, 512)
            )
            if owner_gone:
                asked.append(signal.SIGTERM)
    finally:
        _end_descendants(watchdog, grace)
        with suppress(ProcessLookupError):
            os.killpg(watchdog, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(watchdog, 0)
    return status if status is not None and not asked else 128 + asked[0]


def descendants(pid: int) -> dict[int, int]:
    """Returns all living processes below one, id -> session; zombies are left out, empty where there is no `/proc`."""
    children: dict[int, dict[int, int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # the command's name stands in brackets and may hold spaces and brackets itself
            state, parent, _, session = stat.read_text(errors="replace").rpartition(")")[2].split()[:4]
            if state not in "ZX":
                children.setdefault(int(parent), {})[int(stat.parent.name)] = int(session)
    found: dict[int, int] = {}
    pending = [pid]
    while pending:
        below = children.get(pending.pop(), {})
        pending.extend(below.keys() - found.keys())
        found |= below
    return found


def _adopt_orphans() -> None:
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _start_watchdog() -> tuple[int, int]:
    end, pipe = os.pipe()
    pid = os.fork()
    if pid == 0:
        _watch(end, pipe)
    os.close(end)
    with suppress(OSError):
        os.setpgid(pid, pid)  # by both, so that neither has to wait for the other
    return pid, pipe


def _watch(end: int, pipe: int) -> NoReturn:
    os.close(pipe)
    with suppress(OSError):
        os.setpgid(0, 0)
    for number in _STOP:
        signal.signal(number, signal.SIG_IGN)
    os.read(end, 1)  # nothing is ever written: returns when the supervisor is gone
    os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _become_program(group: int) -> None:
    signal.set_wakeup_fd(-1)
    for number in (*_STOP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setpgid(0, group)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)


def _wake_on_signals(asked: list[int]) -> int:
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)

    def note(number: int, frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            asked.append(number)

    for number in (*_STOP, signal.SIGCHLD):
        signal.signal(number, note)
    return read


def _reap(child: int) -> int | None:
    """Collects ended children, adopted ones too; returns the program's exit status once it has ended."""
    status: int | None = None
    with suppress(ChildProcessError):
        while True:
            pid, raw = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(raw)
                status = code if code >= 0 else 128 - code
    return status


def _end_descendants(watchdog: int, grace: float) -> None:
    start = time.monotonic()
    own_session = os.getsid(0)
    told: set[tuple[int, int]] = set()
    while living := {pid: session for pid, session in descendants(os.getpid()).items() if pid != watchdog}:
        number = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)[min(2, int((time.monotonic() - start) / grace))]
        for pid, session in living.items():
            mine = session in (own_session, pid) or number == signal.SIGKILL
            if mine and (pid, number) not in told:
                told.add((pid, number))
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        time.sleep(0.02)
        _reap(0)


if __name__ == "__main__":  # standard input is the lifeline, the arguments are the program
    sys.exit(supervise(lambda: os.execvp(sys.argv[1], sys.argv[1:]), lifeline=os.dup(0)))  # noqa: S606

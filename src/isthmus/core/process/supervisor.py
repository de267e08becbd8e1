"""Runs one program so that no process of it outlives its owner, even after a kill.

    owner ==lifeline==> supervisor ==pipe==> guard --> program --> its children and grandchildren

The lifeline is a pipe whose other end only the owner holds: it ends when the owner ends, even by SIGKILL.

| who dies | who notices | what happens |
| --- | --- | --- |
| owner | supervisor, by the end of the lifeline (without one: nobody) | descendants: INT, TERM, KILL |
| supervisor asked to stop (TERM, INT, HUP) | itself | the same |
| program, with children left behind | supervisor, which adopts them when the guard ends | the same |
| guard, by SIGKILL | supervisor, which adopts the program | the same |
| guard asked to stop | itself | hands the signal on to the supervisor |
| supervisor, by SIGKILL | guard, by the end of its pipe | KILL to all descendants |

INT comes first because Python then runs its `finally` blocks: half-written files and dvc's locks are cleared away.
A descendant that leads a session of its own is another supervisor: it alone is signalled, and signals its own.
`PR_SET_PDEATHSIG` alone is not enough: it reaches dvc but not the training that dvc started, and it fires when the
*thread* that started the child ends. Adopting orphans (`PR_SET_CHILD_SUBREAPER`) and walking `/proc` need Linux;
elsewhere the process group goes.
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


def supervise(program: Callable[[], int], lifeline: int | None = None, grace: float = 2.0) -> int:
    """Forks, runs `program` in a grandchild and returns its exit status; 128 + signal when one ended it.

    Call it from the main thread, before any other thread runs. In the grandchild `program` may replace the process
    (`os.execvp`) or return its exit status; standard input is empty there.

    Args:
        program: what to run.
        lifeline: file descriptor whose end means that the owner is gone; None: the owner is a shell, which may end.
        grace: time between INT and TERM, and between TERM and KILL [s]; each further signal to stop shortens it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    _adopt_orphans()
    asked: list[int] = []
    wake = _wake_on_signals(asked)
    end, pipe = os.pipe()
    guard = os.fork()
    if guard == 0:
        os.close(pipe)
        _guard(program, end)
    os.close(end)
    with suppress(OSError):
        os.setpgid(guard, guard)  # by both, so that neither has to wait for the other
    status: int | None = None
    try:
        while status is None and not asked:
            watched = [wake] if lifeline is None else [wake, lifeline]
            readable = select.select(watched, [], [])[0]
            if wake in readable:
                os.read(wake, 512)
            status = _reap(guard)
            if lifeline in readable and not os.read(lifeline, 512):
                asked.append(signal.SIGTERM)
    finally:
        _end_descendants(guard, grace, asked)
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


def _guard(program: Callable[[], int], end: int) -> NoReturn:
    """Runs the program and ends with its status, or kills all below when the supervisor is gone."""
    with suppress(OSError):
        os.setpgid(0, 0)
    _adopt_orphans()
    supervisor = os.getppid()
    asked: list[int] = []
    wake = _wake_on_signals(asked)
    child = os.fork()
    if child == 0:
        os.close(end)
        _become_program()
        sys.exit(program())
    while True:
        readable = select.select([wake, end], [], [])[0]
        if wake in readable:
            os.read(wake, 512)
        if (status := _reap(child)) is not None:
            os._exit(status)
        if asked:  # by whoever took it for the command: the supervisor ends all in order
            with suppress(ProcessLookupError):
                os.kill(supervisor, asked.pop())
        if end in readable:  # nothing is ever written: the supervisor is gone
            while living := descendants(os.getpid()):
                for pid in living:
                    with suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.02)
                _reap(child)
            os.killpg(0, signal.SIGKILL)  # where there is no /proc


def _become_program() -> None:
    signal.set_wakeup_fd(-1)
    for number in (*_STOP, signal.SIGCHLD):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
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
        # ignored before: by nohup, or by a shell that starts us in the background
        if number == signal.SIGCHLD or signal.getsignal(number) != signal.SIG_IGN:
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


def _end_descendants(guard: int, grace: float, asked: list[int]) -> None:
    start, once = time.monotonic(), len(asked)
    own_session = os.getsid(0)
    told: set[tuple[int, int]] = set()
    while living := descendants(os.getpid()):
        step = int((time.monotonic() - start) / grace) + len(asked) - once
        number = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)[min(2, step)]
        for pid, session in living.items():
            mine = session in (own_session, pid) or number == signal.SIGKILL
            # the guard ends with the program, and would only hand a signal on
            if mine and (pid, number) not in told and (pid != guard or number == signal.SIGKILL):
                told.add((pid, number))
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        time.sleep(0.02)
        _reap(0)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(guard, signal.SIGKILL)  # where there is no /proc
    _reap(0)


if __name__ == "__main__":  # standard input is the lifeline, the arguments are the program
    sys.exit(supervise(lambda: os.execvp(sys.argv[1], sys.argv[1:]), lifeline=os.dup(0)))  # noqa: S606

"""A command of ours as a user starts it: nothing of it outlives it, and it ends with one message."""

import signal
import sys
from collections.abc import Callable, Sequence

from isthmus.core.process.failures import INTERRUPTED, one_message
from isthmus.core.process.supervisor import supervise

_GRACE = 4.0  # [s] to clean up after Ctrl-C, and again after TERM
_STOPPED = (128 + signal.SIGHUP, 128 + signal.SIGINT, 128 + signal.SIGTERM)


def run(program: Callable[[], int], name: str, hidden: Sequence[str] = ()) -> int:
    """Runs a command in a process of its own and returns its exit status.

    Args:
        program: returns the exit status.
        name: of the command.
        hidden: folders of which no file may be named.
    """

    def told() -> int:
        with one_message(name, hidden):
            try:
                return program()
            except KeyboardInterrupt:
                return 128 + signal.SIGINT
        raise AssertionError("one_message() ends the process when the block fails")

    status = supervise(told, grace=_GRACE)
    if status in _STOPPED:
        print(INTERRUPTED, file=sys.stderr)
    return status

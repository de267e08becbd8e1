"""A process without a supervisor that ends with its parent."""

import ctypes
import signal
from contextlib import suppress

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Has the system send TERM to this process when its parent's thread ends, even by SIGKILL; on Linux only.

    For stages: a plain `dvc repro` that is killed would leave its training alive, and the next one would write the same
    files beside it.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)

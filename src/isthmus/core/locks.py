"""One at a time, across processes: a lock on a file that the system frees when its holder ends, however it ends."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from isthmus.core.errors import StoreError

DVC_LOCK = Path(".dvc") / "tmp" / "lock"  # dvc holds it whenever it writes dvc.lock or params.yaml


@contextmanager
def flocked(path: Path, patience: float = 30.0) -> Iterator[TextIO]:
    """Holds an exclusive `flock`, as dvc does on its own lock files; yields the open file.

    Args:
        path: the lock's file; made where missing, never removed: else two could hold "the" lock on two files.
        patience: how long to wait for another holder [s].

    Raises:
        StoreError: another process held it all that time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as stream:
        give_up = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    raise StoreError(
                        f"{path}: held by another process for {patience:.0f} s."
                        f" Find it with 'fuser {path}', wait for it or end it, and run the same command again"
                    ) from None
                time.sleep(0.05)
        yield stream

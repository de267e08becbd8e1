"""Progress for people: a bar in a terminal, otherwise a line every few seconds."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from isthmus.core.addresses import without_passwords

T = TypeVar("T")
_SECONDS_BETWEEN_LINES = 5.0


def track(items: Iterable[T], what: str, total: int, unit: str = "image") -> Iterator[T]:
    """Yields the items and shows how far it is, how fast, and what is left, on standard error."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as rich_track

        yield from rich_track(items, what, total=total, console=Console(stderr=True))
        return
    start, pace = time.monotonic(), Pace(_SECONDS_BETWEEN_LINES)
    for done, item in enumerate(items, start=1):
        yield item
        if pace.due() or done == total:
            rate = done / max(time.monotonic() - start, 1e-9)
            left = (total - done) / max(rate, 1e-9)
            plural = f"{unit}es" if unit.endswith("ch") else f"{unit}s"
            print(f"{what}: {done}/{total} {plural}, {rate:.1f}/s, {left:.0f} s left", file=sys.stderr, flush=True)


class Pace:
    """Returns at intervals whether to act again, for progress lines that no result depends on."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """Returns whether the interval has passed since it last returned True or was created."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


def log(text: str) -> None:
    """Prints one line on standard error at once."""
    print(without_passwords(text), file=sys.stderr, flush=True)

"""How measured speed is shown: runs by turns in one call, medians, ratios against a goal, and the machine's facts."""

import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.sections import table

DOCUMENT = Path("docs/performance.md")


class Row(NamedTuple):
    """A line of the table of goals.

    Attributes:
        what: is measured.
        measured: with its unit.
        goal: what `ratio` should be.
        ratio: as `goal` has it.
        reached: whether it is.
    """

    what: str
    measured: str
    goal: str
    ratio: str
    reached: bool


def by_turns(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Returns the processor seconds of each run, one after another in each round: what it returns as a float, or all.

    Of one thread they are its time on a quiet machine; what others do meanwhile is not counted.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            own = run()
            found[name].append(own if isinstance(own, float) else time.process_time() - start)
    return found


def ratio(of: list[float], to: list[float]) -> float:
    """Returns the median over rounds of one run's time in another's.

    >>> ratio([2.0, 4.0, 9.0], [1.0, 2.0, 3.0])
    2.0
    """
    return median(one / other for one, other in zip(of, to, strict=True))


def goals(rows: list[Row]) -> str:
    """Returns rows with their verdict as Markdown."""
    lines = [(row.what, row.measured, row.goal, row.ratio, "reached" if row.reached else "not reached") for row in rows]
    return table(("what", "measured", "goal", "ratio", "verdict"), *lines)


def facts(*packages: str) -> str:
    """Returns a sentence on machine, versions and load."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.split(":")[1].strip() for line in flags.splitlines() if line.startswith("model name")), "")
    has = [name for name in ("avx512_bf16", "amx_bf16") if f" {name}" in flags]
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    loads = " ".join(f"{load:.1f}" for load in os.getloadavg())
    has = has or ["no bfloat16 instructions"]
    return (
        f"{os.cpu_count()} processors ({model or platform.machine()}; {', '.join(has)}), load average {loads};"
        f" Python {platform.python_version()}, {versions}."
    )

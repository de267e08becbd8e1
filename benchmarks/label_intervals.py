"""How often the interval of a measured accuracy holds, and how wide it is, by the number of labels: exactly.

`python -m benchmarks.label_intervals` enumerates, for each number of right answers in a population, all outcomes of a
draw without replacement (hypergeometric), and prints the table; `--out docs/benchmarks.md` writes it there.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from benchmarks.sections import write_section
from isthmus.evaluation.confidence.measured import wilson

COUNTS = (10, 20, 30, 50, 100, 200)  # labels
POPULATIONS = (300, 2000, 20_000)  # target images
PRACTICAL = (0.3, 0.95)  # [share] range of accuracies that models in use have
_EXPLAINED = """\
Exact enumeration of all draws without replacement. The mean coverage is over all numbers of right answers, from none to
all; each single accuracy has a coverage of its own around it, of which the lowest and the highest are given."""


def coverage(count: int, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the coverage for each number of right answers in the population, and the width for each outcome."""
    bounds = np.array([wilson(right, count, size) for right in range(count + 1)])
    truth = np.arange(size + 1)
    inside = (bounds[:, :1] <= truth / size + 1e-12) & (truth / size - 1e-12 <= bounds[:, 1:])
    right = np.arange(count + 1)[:, None]
    possible = (right <= truth) & (count - right <= size - truth)
    logs = _log_choose(truth, right) + _log_choose(size - truth, count - right) - _log_choose(size, count)
    held: NDArray[np.float64] = np.where(possible & inside, np.exp(np.where(possible, logs, 0)), 0.0).sum(axis=0)
    return held, bounds[:, 1] - bounds[:, 0]


def _log_choose(n: NDArray[np.int64] | int, k: NDArray[np.int64] | int) -> NDArray[np.float64]:
    found: NDArray[np.float64] = (
        gammaln(np.add(n, 1)) - gammaln(np.add(k, 1)) - gammaln(np.maximum(np.subtract(n, k), 0) + 1)
    )
    return found


def rows() -> list[str]:
    """Returns the lines of the table."""
    found = [
        "| target images | labels | mean coverage | at accuracies of 30 to 95%: lowest, highest | widest [points] |"
        " at 85% right [points] |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for size in POPULATIONS:
        for count in (count for count in COUNTS if count < size):
            held, widths = coverage(count, size)
            low, high = (round(share * size) for share in PRACTICAL)
            usual = held[low : high + 1]
            found.append(
                f"| {size:,} | {count} | {held.mean():.3f} | {usual.min():.3f}, {usual.max():.3f} |"
                f" {100 * widths.max():.1f} | {100 * widths[round(0.85 * count)]:.1f} |"
            )
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="Markdown file whose section is written")
    given = parser.parse_args()
    table = "\n".join(rows())
    print(table)
    if given.out:
        text = f"## Intervals of accuracies measured on a few labels\n\n{_EXPLAINED}\n\n{table}"
        write_section(given.out, "Intervals of a few labels: benchmarks/label_intervals.py", text)

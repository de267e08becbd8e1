"""The plot of docs/scale.md: what one image costs by the number of images, as SVG text that fits git."""

from collections.abc import Iterable, Mapping
from math import ceil, floor, log10

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito (2008)
_WIDTH, _HEIGHT, _LEFT, _TOP = 300, 220, 60, 40  # [user unit] of a panel's field, and of its place
_PANEL = _WIDTH + _LEFT + 20


def plot(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Returns two panels on logarithmic axes: processor time [ms] and memory [kB], each divided by the images.

    Args:
        found: stage -> images -> `cpu` [s] and `peak_mb`.
    """
    panels = [("processor time an image [ms]", "cpu"), ("memory an image [kB]", "peak_mb")]
    drawn = [_panel(n * _PANEL + _LEFT, title, key, found) for n, (title, key) in enumerate(panels)]
    names = [
        f'<text x="{_LEFT + 95 * n}" y="{_TOP + _HEIGHT + 60}" fill="{_COLOURS[n]}">{stage}</text>'
        for n, stage in enumerate(found)
    ]
    size = f"{2 * _PANEL + 10} {_TOP + _HEIGHT + 75}"
    start = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-family="sans-serif" font-size="12">'
    return "\n".join([start, '<rect width="100%" height="100%" fill="white"/>', *drawn, *names, "</svg>", ""])


def _panel(left: int, title: str, key: str, found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    series = {
        stage: [(int(count), 1000 * by_count[count][key] / int(count)) for count in sorted(by_count, key=int)]
        for stage, by_count in found.items()
    }
    across = _decades(x for points in series.values() for x, _ in points)
    up = _decades(y for points in series.values() for _, y in points)

    def place(x: float, y: float) -> str:
        right = (log10(x) - across[0]) / (across[-1] - across[0])
        high = (log10(y) - up[0]) / (up[-1] - up[0])
        return f"{left + _WIDTH * right:.1f} {_TOP + _HEIGHT * (1 - high):.1f}"

    parts = [f'<text x="{left}" y="{_TOP - 15}">{title}</text>']
    for power in up:
        x, y = place(10 ** across[0], 10**power).split()
        parts.append(f'<path d="M{x} {y}h{_WIDTH}" stroke="#ccc"/>')
        parts.append(f'<text x="{left - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{10**power:g}</text>')
    for power in across:
        x, y = place(10**power, 10 ** up[0]).split()
        parts.append(f'<text x="{x}" y="{float(y) + 18:.1f}" text-anchor="middle">{10**power:,}</text>')
    parts.append(f'<text x="{left + _WIDTH / 2}" y="{_TOP + _HEIGHT + 36}" text-anchor="middle">images</text>')
    for colour, points in zip(_COLOURS, series.values(), strict=False):
        line = "L".join(place(x, y) for x, y in points)
        parts.append(f'<path d="M{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return "\n".join(parts)


def _decades(values: Iterable[float]) -> range:
    """Returns the powers of ten that hold all values.

    >>> _decades([3.0, 250.0])
    range(0, 4)
    """
    powers = [log10(value) for value in values]
    low, high = floor(min(powers)), ceil(max(powers))
    return range(low, max(high, low + 1) + 1)

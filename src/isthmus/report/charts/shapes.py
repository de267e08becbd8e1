"""Charts of the report as inline SVG: no clock, no font and no library version in the bytes.

The charts carry shapes and CSS classes only. Words and numbers stand beside them in HTML, so that they keep
their size on a narrow screen, and colours come from the page's style sheet, so that they follow light and dark.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

COLOURS = 8  # classes .k0 to .k7 in the style sheet: the palette of Okabe and Ito (2008), safe for colour-blind readers
SHAPES = 5  # a shape beside each colour: 8 colours and 5 shapes tell 40 classes apart
_WIDTH, _HEIGHT, _PAD = 400, 300, 8  # [user unit] of a scatter chart
_POINT = (
    "h0",
    "m-2.2-2.2l4.4 4.4m0-4.4l-4.4 4.4",
    "m-2.6 0h5.2m-2.6-2.6v5.2",
    "m-2-2h4v4h-4z",
    "m-2.4 1.8h4.8l-2.4-4.2z",
)


@dataclass(frozen=True)
class Cloud:
    """Points of one group.

    Attributes:
        colour: number of its colour in the style sheet, or `source` / `target` / `even` (a grey line to compare with).
        shape: number of its shape; 0 is a filled dot.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    colour: int | str
    shape: int = 0


@dataclass(frozen=True)
class Frame:
    """Limits that several charts share, so that a place in one is the same place in the other."""

    left: float
    right: float
    bottom: float
    top: float

    @classmethod
    def around(cls, x: NDArray[np.float64], y: NDArray[np.float64]) -> "Frame":
        """Returns the limits of all finite points."""
        finite = np.isfinite(x) & np.isfinite(y)
        if not finite.any():
            return cls(0.0, 1.0, 0.0, 1.0)
        return cls(*(float(v) for v in (x[finite].min(), x[finite].max(), y[finite].min(), y[finite].max())))


def class_cloud(name: str, number: int, x: NDArray[np.float64], y: NDArray[np.float64]) -> Cloud:
    """Returns the cloud of one class; colour and shape follow from the class's place alone."""
    return Cloud(name, x, y, number % COLOURS, number % SHAPES)


def scatter(clouds: Sequence[Cloud], frame: Frame, title: str) -> Markup:
    """Returns a scatter chart; later clouds lie on top of earlier ones."""
    groups = [_group(cloud, frame) for cloud in clouds]
    label = f"{title}: " + ", ".join(f"{cloud.name} {len(cloud.x)} points" for cloud in clouds)
    return _svg(f"0 0 {_WIDTH} {_HEIGHT}", "scatter", label, groups)


def marker(cloud: Cloud) -> Markup:
    """Returns the sign of one cloud for a legend."""
    # Drawn at twice the size of a point: a legend is read, a point is only seen.
    mark = f'<g class="{_class(cloud)}" transform="scale(2)"><path d="M4 4{_POINT[cloud.shape]}"/></g>'
    return Markup(f'<svg class="marker" viewBox="0 0 16 16" aria-hidden="true">{mark}</svg>')  # noqa: S704 - no text


def lines(
    series: Sequence[Sequence[float | None]], low: float, high: float, title: str, kept: Sequence[int], best: int
) -> Markup:
    """Returns a line chart over epochs 1, 2, ...: thin lines, one a seed, and their mean.

    Args:
        series: one list of values a seed; None breaks the line.
        low: value at the lower edge.
        high: value at the upper edge.
        title: what a screen reader says.
        kept: epochs with a thin upright line.
        best: epoch with a strong upright line; 0 for none.
    """
    count = max((len(values) for values in series), default=0)
    parts = [f'<path class="kept" d="M{_place(e, count)} 0V100"/>' for e in kept if e != best]
    if best:
        parts.append(f'<path class="best" d="M{_place(best, count)} 0V100"/>')
    parts += [f'<path class="seed" d="{_line(values, count, low, high)}"/>' for values in series]
    parts.append(f'<path class="mean" d="{_line(mean_line(series), count, low, high)}"/>')
    return _svg("0 0 100 100", "lines", title, parts, stretch=True)


def mean_line(series: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Returns the mean over seeds, None where a seed has no value.

    >>> mean_line([[1.0, None], [3.0, 2.0]])
    [2.0, None]
    """
    count = max((len(values) for values in series), default=0)
    columns = [[values[i] if i < len(values) else None for values in series] for i in range(count)]
    return [None if None in column else sum(v for v in column if v is not None) / len(column) for column in columns]


def _group(cloud: Cloud, frame: Frame) -> str:
    finite = np.isfinite(cloud.x) & np.isfinite(cloud.y)
    x = _scaled(cloud.x[finite], frame.left, frame.right) * (_WIDTH - 2 * _PAD) + _PAD
    y = (1 - _scaled(cloud.y[finite], frame.bottom, frame.top)) * (_HEIGHT - 2 * _PAD) + _PAD
    # One path for a whole cloud: a point costs about 12 bytes, so that 4,000 of them stay below 100 KB.
    points = "".join(f"M{a:.1f} {b:.1f}{_POINT[cloud.shape]}" for a, b in zip(x, y, strict=True))
    return f'<g class="{_class(cloud)}"><path d="{points}"/></g>'


def _class(cloud: Cloud) -> str:
    colour = f"k{cloud.colour}" if isinstance(cloud.colour, int) else cloud.colour
    return f"cloud {colour}{' dot' if cloud.shape == 0 else ''}"


def _scaled(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    return (values - low) / (high - low) if high > low else np.full(len(values), 0.5)


def _place(epoch: int, count: int) -> str:
    return f"{100 * (epoch - 1) / (count - 1) if count > 1 else 50:.2f}"


def _line(values: Sequence[float | None], count: int, low: float, high: float) -> str:
    path, pen = [], "M"
    for epoch, value in enumerate(values, start=1):
        if value is None:
            pen = "M"
            continue
        height = 100 * (1 - (value - low) / (high - low)) if high > low else 50.0
        path.append(f"{pen}{_place(epoch, count)} {height:.2f}")
        pen = "L"
    return "".join(path) + ("h0.01" if len(path) == 1 else "")


def _svg(box: str, kind: str, label: str, parts: Sequence[str], stretch: bool = False) -> Markup:
    aspect = ' preserveAspectRatio="none"' if stretch else ""
    text = f'<svg class="{kind}" viewBox="{box}"{aspect} role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    return Markup(text)  # noqa: S704 - the label is escaped, the rest are numbers and our own names

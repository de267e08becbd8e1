"""Shares and differences as people read them: the same words on the page, in the verdict and on the model card."""

from typing import Any

ABSENT = "\u2013"  # a dash where there is no number
MINUS = "\u2212"  # as wide as the plus sign, so that columns line up


def share(value: float | None) -> str:
    """Returns a share as a percentage.

    >>> share(0.6124)
    '61.2%'
    """
    return ABSENT if value is None else f"{100 * value:.1f}%"


def points(value: float, sign: bool = True) -> str:
    """Returns a difference of shares in percentage points.

    >>> points(0.031)
    '+3.1 points'
    """
    text = f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"
    return text.replace("-", MINUS) + " points"


def share_with_interval(value: dict[str, Any], name: str = "balanced accuracy") -> str:
    """Returns a score, by its name, and its 95% interval.

    >>> share_with_interval({"mean": 0.5, "low": 0.4, "high": 0.6})
    '50.0% balanced accuracy (95% interval 40.0% to 60.0%)'
    """
    return f"{share(value['mean'])} {name} (95% interval {share(value['low'])} to {share(value['high'])})"


def points_with_interval(value: dict[str, Any]) -> str:
    """Returns a difference and its paired 95% interval.

    >>> points_with_interval({"mean": 0.1, "low": 0.0, "high": 0.2})
    '+10.0 points (paired 95% interval +0.0 to +20.0)'
    """
    low, high = (points(value[k]).removesuffix(" points") for k in ("low", "high"))
    return f"{points(value['mean'])} (paired 95% interval {low} to {high})"


def markdown_cell(value: Any) -> str:
    """Returns text that stays inside one Markdown table cell and holds no live HTML.

    >>> markdown_cell("a|b <i>")
    'a\\\\|b &lt;i>'
    """
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")

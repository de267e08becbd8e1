"""The tables of `report` as PNG, which MLflow's page shows beside the report."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

Rows = list[dict[str, str]]
_METHODS_AT_ONCE = 20  # lines or bars in a picture; more cannot be told apart


def draw(tables: dict[str, Path], score: str, folder: Path) -> None:
    """Writes `<name>.png` of each table that has a row.

    Args:
        tables: `curves`, `leaderboard`, `confusion`, `reliability` -> CSV file (`report/charts/tables.py`).
        score: name of the task's score.
        folder: where they are written.
    """
    # Here and not above: most calls find everything published.
    from matplotlib.figure import Figure

    drawn: dict[str, Callable[[Any, Rows, str], None]] = {
        "curves": _curves, "leaderboard": _leaderboard, "confusion": _confusion, "reliability": _reliability
    }  # fmt: skip
    for name, path in tables.items():
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        if rows:
            figure = Figure(figsize=(7, 5), layout="constrained")
            drawn[name](figure.subplots(), rows, score)
            figure.savefig(folder / f"{name}.png", dpi=110)


def _curves(axes: Any, rows: Rows, score: str) -> None:
    _lines(axes, rows, "epoch", "loss")
    axes.set(title="Training loss, mean over seeds", xlabel="epoch", ylabel="loss")


def _leaderboard(axes: Any, rows: Rows, score: str) -> None:
    shown = rows[:_METHODS_AT_ONCE][::-1]
    axes.barh([_plain(row["method"]) for row in shown], [float(row["score"]) for row in shown], alpha=0.7)
    for place, row in enumerate(shown):
        if row["low"]:
            axes.plot([float(row["low"]), float(row["high"])], [place, place], color="black")
    axes.set(title=f"{score[:1].upper()}{score[1:]}, {rows[0]['on']}", xlabel=score, xlim=(0, 1))


def _confusion(axes: Any, rows: Rows, score: str) -> None:
    true, predicted = (list(dict.fromkeys(row[key] for row in rows)) for key in ("true", "predicted"))
    shares = [[0.0] * len(predicted) for _ in true]
    for row in rows:
        shares[true.index(row["true"])][predicted.index(row["predicted"])] = float(row["share"])
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(predicted)), list(map(_plain, predicted)), rotation=45, ha="right")
    axes.set_yticks(range(len(true)), list(map(_plain, true)))
    if len(true) * len(predicted) <= _METHODS_AT_ONCE**2:
        for i, line in enumerate(shares):
            for j, share in enumerate(line):
                axes.text(j, i, f"{share:.2f}", ha="center", va="center", color="white" if share > 0.5 else "black")
    axes.set(title="Predicted classes by true class, target's test split", xlabel="predicted", ylabel="true")


def _reliability(axes: Any, rows: Rows, score: str) -> None:
    _lines(axes, rows, "confidence", "accuracy")
    axes.set(title="Accuracy by confidence", xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))


def _lines(axes: Any, rows: Rows, x: str, y: str) -> None:
    for name in list(dict.fromkeys(row["series"] for row in rows))[:_METHODS_AT_ONCE]:
        own = [row for row in rows if row["series"] == name]
        axes.plot([float(r[x]) for r in own], [float(r[y]) for r in own], marker=".", label=_plain(name))
    axes.legend(fontsize="small")


def _plain(name: str) -> str:
    """Returns a name that is drawn as it stands: between two dollars matplotlib would read a formula."""
    return name.replace("$", r"\$")

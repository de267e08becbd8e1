"""The tables behind `dvc plots show`: CSV, one row a point. A table whose task or labels do not give it has no row."""

import csv
import io
from collections.abc import Sequence

from isthmus.report.charts.shapes import mean_line
from isthmus.report.leaderboard import leaderboard
from isthmus.report.results import Findings

Row = Sequence[str | float | None]


def curves_table(findings: Findings) -> str:
    """Returns columns `series` (method), `epoch`, `loss` (total, mean over seeds); an epoch without a loss is left out.

    A method that trains nothing has no row.
    """
    rows: list[Row] = []
    for method, seeds in sorted(findings.curves.items()):
        losses = mean_line([[line.get("loss_total") for line in seed] for seed in seeds])
        rows += [[method, epoch, loss] for epoch, loss in enumerate(losses, start=1) if loss is not None]
    return _as_csv(["series", "epoch", "loss"], rows)


def leaderboard_table(findings: Findings) -> str:
    """Returns columns `method`, `score`, `low`, `high`, `on`, the best first.

    The score is the report's on the target's test split, with its 95% interval; without target labels it is that of
    the source's validation split.
    """
    rows: list[Row] = []
    for row in leaderboard(findings):
        true = row.true_score
        if true is not None:
            rows.append([row.method, true["mean"], true["low"], true["high"], "target"])
        elif row.source_val_accuracy is not None:
            rows.append([row.method, row.source_val_accuracy, None, None, "source validation"])
    return _as_csv(["method", "score", "low", "high", "on"], rows)


def confusion_table(findings: Findings) -> str:
    """Returns columns `true`, `predicted`, `share` (of the true class) of the chosen method on the target's test split.

    Of boxes: `predicted` is the class, or `missed`. No row without target labels; none of a class without an image.
    """
    rows: list[Row] = []
    if findings.labelled:
        chosen = findings.truth["methods"][findings.truth["chosen"]]
        classes = findings.truth["classes"]
        for name, counts in zip(classes, chosen.get("confusion", []), strict=False):
            rows += [[name, other, n / sum(counts)] for other, n in zip(classes, counts, strict=True) if sum(counts)]
        if findings.scored.unit == "box":
            for name, row in chosen["per_class"].items():
                if row["recall"] is not None:
                    rows += [[name, name, row["recall"]], [name, "missed", 1 - row["recall"]]]
    return _as_csv(["true", "predicted", "share"], rows)


def reliability_table(findings: Findings) -> str:
    """Returns columns `series`, `confidence`, `accuracy`: bins of the calibrated model on each domain's test split.

    `calibrated` is the line on which accuracy is confidence. No row where the task has no calibration.
    """
    if "calibration" not in findings.trust:
        return _as_csv(["series", "confidence", "accuracy"], [])
    tables = {"source test": findings.trust["calibration"]["source_test"]}
    if findings.labelled:
        tables["target test"] = findings.truth["trust"]["calibration"]
    rows: list[Row] = [["calibrated", end, end] for end in (0.0, 1.0)]
    for name, table in tables.items():
        bins = table["calibrated"]["reliability"]
        rows += [[name, b["confidence"], b["accuracy"]] for b in bins if b["accuracy"] is not None]
    return _as_csv(["series", "confidence", "accuracy"], rows)


def _as_csv(columns: list[str], rows: list[Row]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([f"{v:.6g}" if isinstance(v, float) else v for v in row] for row in rows)
    return stream.getvalue()

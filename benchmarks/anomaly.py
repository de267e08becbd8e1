"""Tables finished scenarios of anomaly detection.

`python -m benchmarks.anomaly --project FOLDER --write .` reads what the stages of a project left in `out/*`. There,
source_only is PatchCore on the source's good images (without its coreset), and target_memory the same on the target's
training images: where these are all good, as in `anomaly_tiles`, it is what the target's own good images give.
"""

from pathlib import Path
from typing import Any

from benchmarks.finished import FILES, finished, run
from benchmarks.sections import table
from isthmus.core.files import read_json


def rows_of(project: Path) -> list[tuple[Any, ...]]:
    """Returns a row a method of each finished scenario.

    Raises:
        DataError: there is none.
    """
    rows: list[tuple[Any, ...]] = []
    for folder in finished(project, "auroc", "of task anomaly"):
        truth = read_json(folder / FILES[0])
        found = truth["anomaly"]
        for method, own in found["methods"].items():
            score = truth["methods"][method]
            name = f"{method} (the choice)" if method == truth["chosen"] else method
            gain = score["minus_source_only"]
            rows.append(
                (
                    folder.name, f"{found['good']} / {found['defective']}", name, _interval(score["auroc"]),
                    f"{gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})",
                    f"{found['false_alarms']:.2f}", _interval(own["false_alarm_rate"]), _interval(own["found"]),
                    *("" if own[key] is None else f"{own[key]:.3f}" for key in ("pixel_auroc", "aupro")),
                )
            )  # fmt: skip
    return rows


def report(rows: list[tuple[Any, ...]]) -> str:
    """Returns the rows as Markdown."""
    head = ("scenario", "good / defective", "method", "AUROC", "minus source-only", "promised", "false alarms")
    text = "On the target's test split, 95% intervals by group (of alarms: Wilson's, with as many draws as groups)."
    return f"{text}\n\n{table((*head, 'defects found', 'pixel AUROC', 'AUPRO'), *rows)}"


def _interval(value: dict[str, float]) -> str:
    return f"{value['mean']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


if __name__ == "__main__":
    run("anomaly", __doc__, rows_of, report)

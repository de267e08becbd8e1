"""Tables finished scenarios of anomaly detection.

`python -m benchmarks.anomaly --project FOLDER --write .` reads what the stages of a project left in `out/*`. There,
source_only is PatchCore on the source's good images (without its coreset), and target_memory the same on the target's
training images: where these are all good, as in `anomaly_tiles`, it is what the target's own good images give.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks.choice import table
from benchmarks.sections import write_section
from isthmus.core.errors import DataError
from isthmus.core.files import read_json


def rows_of(project: Path) -> list[tuple[Any, ...]]:
    """Returns a row a method of each finished scenario.

    Raises:
        DataError: there is none.
    """
    rows: list[tuple[Any, ...]] = []
    for path in sorted(project.glob("out/*/truth.json")):
        truth = read_json(path)
        if truth.get("metric") != "auroc":
            continue
        found = truth["anomaly"]
        for method, own in found["methods"].items():
            score = truth["methods"][method]
            name = f"{method} (the choice)" if method == truth["chosen"] else method
            gain = score["minus_source_only"]
            rows.append(
                (
                    path.parent.name, f"{found['good']} / {found['defective']}", name, _interval(score["auroc"]),
                    f"{gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})",
                    f"{found['false_alarms']:.2f}", _interval(own["false_alarm_rate"]), _interval(own["found"]),
                    *("" if own[key] is None else f"{own[key]:.3f}" for key in ("pixel_auroc", "aupro")),
                )
            )  # fmt: skip
    if not rows:
        raise DataError(f"{project / 'out'}: no scenario of task anomaly is finished. Run 'dvc repro report@NAME'")
    return rows


def report(rows: list[tuple[Any, ...]]) -> str:
    """Returns the rows as Markdown."""
    head = ("scenario", "good / defective", "method", "AUROC", "minus source-only", "promised", "false alarms")
    text = "On the target's test split, 95% intervals by group (of alarms: Wilson's, with as many draws as groups)."
    return f"{text}\n\n{table((*head, 'defects found', 'pixel AUROC', 'AUPRO'), *rows)}"


def _interval(value: dict[str, float]) -> str:
    return f"{value['mean']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


def main() -> None:
    """Tables the finished scenarios of the project that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anomaly", description=__doc__)
    parser.add_argument("--project", type=Path, required=True, help="folder with finished scenarios in out/")
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/benchmarks.md gets the table")
    given = parser.parse_args()
    text = report(rows_of(given.project.resolve()))
    print(text)
    if given.write:
        write_section(given.write / "docs" / "benchmarks.md", "anomaly", text)


if __name__ == "__main__":
    main()

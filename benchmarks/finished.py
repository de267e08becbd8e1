"""Finished scenarios of a project: which there are, and their methods as a table."""

import argparse
import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.sections import table, write_section
from isthmus.core.errors import DataError
from isthmus.core.files import read_json
from isthmus.evaluation.selection.choice import ENSEMBLE, SOURCE_ONLY

FILES = ("truth.json", "choice.json", "metrics.json")  # of a scenario that is finished
Pair = tuple[float, float]  # two scores [share]


def finished(project: Path, metric: str, what: str) -> list[Path]:
    """Returns the folders of scenarios whose methods are compared by a metric, in the order of their names.

    Args:
        project: with finished scenarios in `out/`.
        metric: as in `truth.json`.
        what: such scenarios, in words.

    Raises:
        DataError: there is none.
    """
    folders = [path.parent for path in sorted(project.glob(f"out/*/{FILES[0]}"))]
    whole = [folder for folder in folders if all((folder / name).is_file() for name in FILES)]
    found = [folder for folder in whole if read_json(folder / FILES[0]).get("metric") == metric]
    if not found:
        raise DataError(f"{project / 'out'}: no scenario {what} is finished. Run 'dvc repro report@NAME'")
    return found


def result_of(
    folder: Path, scores: Callable[[dict[str, Any], str], Pair], source: str, ceiling: Pair
) -> dict[str, Any]:
    """Returns what one scenario's files say: two scores of each method, and the gain of the choice.

    Args:
        folder: `out/S` of a finished scenario.
        scores: takes the body of `truth.json` and a method.
        source: key of `metrics.json` of the score on the source.
        ceiling: of a head that was trained on the target.
    """
    truth, choice, metrics = (read_json(folder / name) for name in FILES)
    chosen = truth["methods"][truth["chosen"]]
    return {
        "scenario": folder.name,
        "images": truth["count"],
        "methods": {name: scores(truth, name) for name in truth["methods"]},
        "chosen": truth["chosen"],
        "refused": [c["method"] for c in choice["candidates"] if c["refused"]],
        "source": metrics.get(source),
        "gain": chosen["minus_source_only"],
        "verdict": chosen["transfer"],
        "ceiling": ceiling,
    }


def compared(results: Sequence[dict[str, Any]], source: str) -> str:
    """Returns all scenarios as a Markdown table, one row each; `source` heads the column of scores on the source."""
    trained = sorted({name for r in results for name in r["methods"]} - {ENSEMBLE, SOURCE_ONLY})
    methods = [SOURCE_ONLY, *trained]
    rows = []
    for r in results:
        cells = [
            _pair(r["methods"][m]) + ("*" if m in r["refused"] else "") if m in r["methods"] else "" for m in methods
        ]
        gain = "{mean:+.3f} ({low:+.3f} to {high:+.3f})".format(**r["gain"])
        chosen = f"{r['chosen']} {_pair(r['methods'][r['chosen']])}"
        on_source = "" if r["source"] is None else f"{r['source']:.3f}"
        rows.append((r["scenario"], r["images"], *cells, chosen, gain, r["verdict"], on_source, _pair(r["ceiling"])))
    head = ("scenario", "test images", *methods, "the choice", "gain of the choice", "verdict", source)
    return table((*head, "trained on target"), *rows)


def _pair(scores: Pair) -> str:
    return f"{scores[0]:.3f} / {scores[1]:.3f}"


def run(section: str, doc: str | None, results: Callable[[Path], Sequence[Any]], report: Callable[[Any], str]) -> None:
    """Evaluates the finished scenarios of the project that the command line names, and prints or writes the report.

    Args:
        section: of docs/benchmarks.md, and the module's name.
        doc: its docstring.
        results: takes the project's folder.
        report: takes the results, returns Markdown.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{section}", description=doc)
    parser.add_argument(
        "--project", type=Path, required=True, help="folder with params.yaml and finished scenarios in out/"
    )
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/benchmarks.md gets the rows")
    given = parser.parse_args()
    text = report(results(given.project.resolve()))
    print(text)
    if given.write:
        write_section(given.write / "docs" / "benchmarks.md", section, text, keep_rows=True)


def told(folders: Sequence[Path], one: Callable[[Path], dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the result of each scenario, and prints a line when it is there; what training prints is left out."""
    found = []
    for folder in folders:
        with Path(os.devnull).open("w", encoding="utf-8") as silent, contextlib.redirect_stdout(silent):
            found.append(one(folder))
        print(f"{folder.name}: {found[-1]['chosen']} {found[-1]['gain']['mean']:+.3f}", flush=True)
    return found

from pathlib import Path

import pytest

from benchmarks import estimates
from isthmus.core.files import read_json
from tests.scenario_files import write_scenario


def test_the_section_is_written_once_and_leaves_the_rest_of_the_page_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write_scenario(tmp_path / "demo", {"source_only": 0.5, "coral": 0.97, "dann": 0.96})
    pool, page = tmp_path / "pool", tmp_path / "benchmarks.md"
    (pool / "demo").mkdir(parents=True)
    (pool / "demo" / "train").symlink_to(files.trained)
    page.write_text("# Benchmarks\n\nMine.\n")

    for _ in range(2):
        pairs = [f"demo={files.root}"]
        estimates.main(["--params", str(files.params), "--pool", str(pool), "--write", str(page), *pairs])

    text, truth = page.read_text(), read_json(pool / "demo" / "judged" / "truth.json")
    right = 100 * truth["methods"][truth["chosen"]]["accuracy"]["mean"]
    row = next(line for line in text.splitlines() if line.startswith("| demo |"))
    assert text.startswith("# Benchmarks\n\nMine.\n")
    assert text.count(f"<!-- {estimates.SECTION} -->") == text.count("## Target accuracy estimated") == 1
    assert f"| {right:.1f} |" in row
    assert text.count("| demo |") == 1


def row(truth: float, told: float | None) -> estimates.Row:
    ends = {"low": None, "high": None} if told is None else {"low": told - 0.1, "high": told + 0.1}
    return {"pair": "new", "truth": truth, "told": told, **ends}


def test_what_is_not_told_counts_as_that_and_not_as_an_error() -> None:
    said = estimates.summary([row(0.8, 0.75), row(0.8, 0.5), row(0.1, None)])

    assert said == (
        "mean absolute error 17.5 points, truth inside 1 of 2, median width 20.0 points, 1 of 3 cannot be told"
    )
    assert estimates.summary([row(0.1, None)]) == "1 of 1 cannot be told"

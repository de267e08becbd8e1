"""What docs/scale.md and docs/benchmarks.md say of growth and of training again follows from what was measured."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks import growth
from benchmarks.growth import engine_table, growth_table, measured, write_project, write_raw
from benchmarks.growth_plot import plot
from benchmarks.watch import compared

FOUND = {
    "ingest": {"10000": {"cpu": 14.0, "peak_mb": 300.0}, "1000": {"cpu": 5.0, "peak_mb": 250.0}},
    "embed": {"10000": {"cpu": 45.0, "peak_mb": 390.0}, "1000": {"cpu": 9.0, "peak_mb": 390.0}},
}


def test_the_last_column_is_what_one_more_image_costs() -> None:
    assert growth_table(FOUND).splitlines() == [
        "| stage | 1,000 images | 10,000 images | each image more |",
        "| --- | --- | --- | --- |",
        "| `ingest` | 5 s, 250 MB | 14 s, 300 MB | 1.0 ms, 5.6 kB |",
        "| `embed` | 9 s, 390 MB | 45 s, 390 MB | 4.0 ms, 0.0 kB |",
    ]


def test_a_count_that_a_stage_was_not_measured_at_is_empty() -> None:
    found = FOUND | {"predict": {"1000": {"cpu": 11.0, "peak_mb": 500.0}}}

    assert growth_table(found).splitlines()[-1] == "| `predict` | 11 s, 500 MB |  |  |"


def test_the_table_by_engine_has_a_column_for_each() -> None:
    by_engine = {name: {"cpu": float(n), "peak_mb": 100.0} for n, name in enumerate(growth.ENGINES)}
    found = {"embed": dict(sorted(by_engine.items()))}  # as a file of JSON has them

    assert engine_table(found, 3000).splitlines() == [
        "3,000 images:",
        "",
        "| stage | local, 1 worker | local, 2 workers | dask, 2 workers | ray, 2 workers |",
        "| --- | --- | --- | --- | --- |",
        "| `embed` | 0 s, 100 MB | 1 s, 100 MB | 2 s, 100 MB | 3 s, 100 MB |",
    ]


def test_the_plot_has_a_line_for_each_stage_and_falls_where_an_image_gets_cheaper() -> None:
    drawn = ElementTree.fromstring(plot(FOUND))

    lines = [e.attrib["d"] for e in drawn.iter() if e.attrib.get("stroke-width") == "2"]
    assert len(lines) == 2 * len(FOUND)  # time and memory
    for line in lines:
        (x0, y0), (x1, y1) = (map(float, place.split()) for place in line.removeprefix("M").split("L"))
        assert x1 > x0 and y1 > y0  # to the right and down: every series here gets cheaper


def test_a_stage_that_fails_ends_the_measurement_with_its_own_message(tmp_path: Path) -> None:
    write_project(tmp_path / "project")
    write_raw(tmp_path / "project" / "raw", 2)

    with pytest.raises(RuntimeError, match=r"shift: .*index.parquet: cannot be read"):
        measured("shift", tmp_path / "project", tmp_path)


def test_what_training_again_wins_back_is_the_difference_of_balanced_accuracies() -> None:
    labels = np.array([0, 0, 0, 1])
    answers = np.array([[0, 0, 0, 0], [0, 0, 1, 1]])

    before, after, gain = compared(answers, labels, np.arange(4))

    assert (before, round(after, 1)) == (50.0, 83.3)  # not .75 and .75: each class counts alike
    assert gain.startswith("+33.3 (")

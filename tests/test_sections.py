from pathlib import Path

from benchmarks.choice import table
from benchmarks.sections import write_section


def test_a_section_is_replaced_and_the_rest_of_the_file_stays(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text("before\n<!-- x -->\nold\n<!-- end of x -->\nafter\n")

    write_section(document, "x", "new")

    assert document.read_text() == "before\n<!-- x -->\n\nnew\n\n<!-- end of x -->\nafter\n"


def test_rows_of_scenarios_that_were_not_measured_again_stay_where_the_columns_are_the_same(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    write_section(document, "x", "Told before.\n\n" + table(("scenario", "score"), ("c", 1), ("a", 2), ("a", 3)))

    write_section(document, "x", "Told now.\n\n" + table(("scenario", "score"), ("b", 4), ("c", 5)), keep_rows=True)
    once = document.read_text()
    write_section(document, "x", table(("scenario", "other"), ("b", 6)), keep_rows=True)

    rows = ["| a | 2 |", "| a | 3 |", "| b | 4 |", "| c | 5 |"]
    assert once.splitlines()[2:-2] == ["Told now.", "", "| scenario | score |", "| --- | --- |", *rows]
    assert "| a |" not in document.read_text()


def test_a_new_row_is_empty_where_it_lacks_a_column_of_the_rows_that_stay(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    write_section(document, "x", table(("scenario", "mcc", "shot"), ("a", 1, 2), ("b", 3, 4)))

    write_section(document, "x", table(("scenario", "shot"), ("b", 5)), keep_rows=True)

    rows = ["| scenario | mcc | shot |", "| --- | --- | --- |", "| a | 1 | 2 |", "| b |  | 5 |"]
    assert document.read_text().splitlines()[2:-2] == rows


def test_several_rows_of_one_scenario_all_stay_or_are_all_replaced(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    head = ("scenario", "method", "score")
    write_section(document, "x", table(head, ("a", "mcc", 1), ("a", "shot", 2), ("b", "mcc", 3), ("b", "shot", 4)))

    write_section(document, "x", table(head, ("b", "mcc", 5), ("b", "zscore", 6)), keep_rows=True)

    rows = ("a", "mcc", 1), ("a", "shot", 2), ("b", "mcc", 5), ("b", "zscore", 6)
    assert table(head, *rows) in document.read_text()

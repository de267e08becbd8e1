"""Kept statistics of batches: what a line holds, and that no writer spoils another's."""

import json
import subprocess
import sys
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime

import pytest

from isthmus.core.errors import ConfigError
from isthmus.serving.batch_statistics import BINS, Batches, BatchStatistics, histogram, keep, read_kept, summarise
from isthmus.serving.predict import check_statistics

TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from isthmus.serving.batch_statistics import keep, read_kept
path, number = Path(sys.argv[1]), int(sys.argv[2])
first = next(read_kept(path))
for place in range(100):
    keep(path, replace(first, count=1000 * number + place), int(sys.argv[3]))
"""


def answer(score: float = 0.5, name: str = "good", answered: bool = True) -> dict[str, object]:
    return {
        "class": name,
        "probability_good": 0.75,
        "probability_pit": 0.25,
        "answered": answered,
        "domain_score": score,
    }


def one() -> BatchStatistics:
    return summarise([answer(0.04), answer(0.9, "pit", False)], "m-1", "3", TIME)


def test_a_line_holds_counts_and_means_and_nothing_of_an_image(tmp_path):
    keep(tmp_path / "deep" / "kept.jsonl", one())

    line = json.loads((tmp_path / "deep" / "kept.jsonl").read_text())
    assert line == asdict(one())
    assert set(line) == {field.name for field in fields(BatchStatistics)}
    assert (line["time"], line["count"], line["version"]) == ("2026-01-02T03:04:05Z", 2, "3")
    assert (line["domain_score"][0], line["domain_score"][17], sum(line["domain_score"])) == (1, 1, 2)
    assert (line["classes"], line["mean_confidence"], line["answered"]) == ({"good": 1, "pit": 1}, 0.75, 0.5)


@pytest.mark.parametrize("held_out", [19, 57, 99, 174, 641])
def test_every_score_that_a_model_can_answer_falls_into_its_part_upper_edge_inside(held_out):
    steps = held_out + 1

    found = histogram([place / steps for place in range(1, steps + 1)])

    # whole numbers alone: place / steps <= part / BINS
    upto = [place * BINS for place in range(1, steps + 1)]
    expected = [sum(part * steps < place <= (part + 1) * steps for place in upto) for part in range(BINS)]
    assert found == expected


def test_writers_at_once_lose_no_line_and_break_none(tmp_path):
    path = tmp_path / "kept.jsonl"
    keep(path, one())
    command = [sys.executable, "-c", WRITER, str(path)]

    writers = [subprocess.Popen([*command, str(number), str(10**9)]) for number in range(1, 5)]

    assert [writer.wait(60) for writer in writers] == [0] * 4
    counts = [batch.count for batch in read_kept(path)]
    assert sorted(counts) == sorted([2, *(1000 * number + place for number in range(1, 5) for place in range(100))])
    for number in range(1, 5):
        mine = [count for count in counts if count // 1000 == number]
        assert mine == sorted(mine)


def test_a_file_stays_in_bounds_with_the_newest_lines_while_several_write(tmp_path):
    path = tmp_path / "kept.jsonl"
    keep(path, one())
    command = [sys.executable, "-c", WRITER, str(path)]

    writers = [subprocess.Popen([*command, str(number), "5000"]) for number in range(1, 3)]

    assert [writer.wait(60) for writer in writers] == [0] * 2
    assert path.stat().st_size <= 5000
    counts = [batch.count for batch in read_kept(path)]
    assert {1099, 2099} & set(counts)
    for number in (1, 2):  # of each writer the last ones, without a gap
        mine = [count % 1000 for count in counts if count // 1000 == number]
        assert mine == list(range(mine[0], mine[0] + len(mine))) if mine else True


def test_a_line_that_a_killed_writer_cut_off_is_passed_over_and_costs_no_other(tmp_path):
    path = tmp_path / "kept.jsonl"
    keep(path, one())
    with path.open("a") as stream:
        stream.write('{"time": "2026-01')

    keep(path, replace(one(), count=7))

    assert [batch.count for batch in read_kept(path)] == [2, 7]


def test_a_server_keeps_32_images_together_and_the_rest_when_it_ends(tmp_path):
    path = tmp_path / "kept.jsonl"
    batches = Batches(path, "m-1", "3")

    for _ in range(40):
        batches.add([answer()])
    before = [batch.count for batch in read_kept(path)]
    batches.write()
    batches.write()

    assert before == [32]
    assert [batch.count for batch in read_kept(path)] == [32, 8]


def test_a_server_that_cannot_write_says_so_and_goes_on(tmp_path, capfd):
    batches = Batches(tmp_path, "m-1", "3")

    batches.add([answer()] * 33)

    assert "statistics of 33 images are lost: " in capfd.readouterr().err


def test_a_model_without_domain_scores_is_served_and_nothing_is_kept(tmp_path):
    batches = Batches(tmp_path / "kept.jsonl", "m-1", "3")

    batches.add([{"class": "good", "probability_good": 1.0}] * 40)
    batches.write()

    assert not (tmp_path / "kept.jsonl").exists()


def test_a_folder_and_an_unwritable_file_are_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(
        ConfigError, match=r"--keep-statistics .*: is a folder. Name a file, such as .*statistics.jsonl"
    ):
        check_statistics(tmp_path)
    with pytest.raises(ConfigError, match=r"--keep-statistics .*: cannot be written \(.*\). Name another file"):
        check_statistics(tmp_path / "file" / "kept.jsonl")

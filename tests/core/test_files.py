import os
import subprocess
from pathlib import Path

import pytest

from isthmus.core.errors import DataError
from isthmus.core.files import atomic_file, atomic_folder, hash_files, read_json, sweep, write_json


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"

    with pytest.raises(ZeroDivisionError), atomic_file(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError

    assert list(path.parent.iterdir()) == []
    with atomic_file(path) as partial:
        partial.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with atomic_folder(path) as partial:
        (partial / "old").write_text("1")

    with pytest.raises(ZeroDivisionError), atomic_folder(path) as partial:
        (partial / "half").write_text("2")
        raise ZeroDivisionError
    assert [p.name for p in path.iterdir()] == ["old"]

    with atomic_folder(path) as partial:
        (partial / "new").write_text("3")
    assert [p.name for p in path.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_equal_values_are_equal_bytes_and_nan_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": "ä"})
    write_json(tmp_path / "b.json", {"a": "ä", "b": 1})

    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "c.json", {"x": float("nan")})


def test_a_missing_or_broken_json_file_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file. The stage that writes it has not run"):
        read_json(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DataError, match=r"broken.json: not valid JSON .* Delete it and run 'dvc repro' again"):
        read_json(tmp_path / "broken.json")


def test_the_hash_of_files_tells_contents_and_places_apart(tmp_path: Path) -> None:
    for name, content in (("a", "12"), ("b", "3")):
        (tmp_path / "one" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "one" / name).write_text(content)
    before = hash_files([tmp_path / "one"])
    (tmp_path / "one" / "a").write_text("1")
    (tmp_path / "one" / "b").write_text("23")

    assert hash_files([tmp_path / "one"]) != before


def test_what_a_killed_process_left_half_written_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    for pid in (dead.pid, os.getpid()):
        (tmp_path / f".out.{pid}.partial").mkdir()
        (tmp_path / f".params.yaml.{pid}.partial").touch()
    (tmp_path / f".out.{dead.pid}.older").mkdir()
    (tmp_path / "out").mkdir()

    done = sweep(tmp_path)

    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f".out.{os.getpid()}.partial", f".params.yaml.{os.getpid()}.partial", "out",
    ]  # fmt: skip
    assert len(done) == 3
    assert done[0].endswith(f".out.{dead.pid}.partial: removed; a process was killed while writing it")


def test_a_folder_whose_successor_never_came_is_brought_back(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / f".raw.{dead.pid}.older").mkdir()
    (tmp_path / f".raw.{dead.pid}.older" / "image.png").touch()

    with atomic_folder(tmp_path / "other"):
        pass

    assert (tmp_path / "raw" / "image.png").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "raw"]


def test_a_folder_that_cannot_be_moved_in_leaves_the_older_one(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()

    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "out") as partial:
        partial.rmdir()

    assert [p.name for p in (tmp_path / "out").iterdir()] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from isthmus.core.errors import StoreError
from isthmus.core.locks import flocked
from pipelines.leftovers import clear_leftovers, clear_stale_locks, is_alive
from tests.pipelines.tiny_project import locks_in, wait_until, write_project


@pytest.fixture
def dead() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def write_table(project: Path, **entries: dict[str, object]) -> Path:
    table = project / ".dvc" / "tmp" / "rwlock"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(json.dumps(entries))
    return table


def test_entries_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path: Path, dead: int) -> None:
    mine, gone = {"pid": os.getpid(), "cmd": "repro"}, {"pid": dead, "cmd": "repro"}
    table = write_table(tmp_path, write={"/a": gone, "/b": mine}, read={"/c": [gone, mine], "/d": [gone]})

    removed = clear_stale_locks(tmp_path)

    assert json.loads(table.read_text()) == {"write": {"/b": mine}, "read": {"/c": [mine]}}
    assert len(removed) == 3
    assert removed[0] == f"/a: write lock of a dead process {dead} (repro)"


def test_a_table_of_living_processes_is_not_written_again(tmp_path: Path) -> None:
    table = write_table(tmp_path, write={"/b": {"pid": os.getpid(), "cmd": "repro"}})
    before = table.stat().st_mtime_ns

    assert clear_stale_locks(tmp_path) == []
    assert table.stat().st_mtime_ns == before


def test_a_zombie_is_dead() -> None:
    process = subprocess.Popen(["true"])
    wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z", "the zombie")

    assert not is_alive(process.pid, "true", time.time())

    process.wait()


def test_a_process_that_started_after_the_entry_was_written_only_has_its_number(tmp_path: Path) -> None:
    table = write_table(tmp_path, write={"/a": {"pid": os.getpid(), "cmd": "dvc repro -s train@steel-coral"}})
    os.utime(table, (1, 1))

    removed = clear_stale_locks(tmp_path)

    assert len(removed) == 1
    assert not locks_in(tmp_path)


def test_a_clock_that_is_set_forward_does_not_clear_a_living_processs_lock(tmp_path: Path) -> None:
    """After the step the process looks younger than its table, but its command line is still the noted one."""
    command = ["sleep", "600"]
    process = subprocess.Popen(command)
    try:
        while (
            b"sleep" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        ):  # the kernel sets it a moment after exec
            time.sleep(0.01)
        table = write_table(tmp_path, write={"/a": {"pid": process.pid, "cmd": " ".join(["/bin/sleep", *command[1:]])}})
        os.utime(table, (time.time() - 3600, time.time() - 3600))

        assert clear_stale_locks(tmp_path) == []
        assert locks_in(tmp_path)
    finally:
        process.kill()
        process.wait()
    assert len(clear_stale_locks(tmp_path)) == 1


@pytest.mark.parametrize(
    "text", ["", '{"write": {"/a"', "[]", '{"write": {"/a": {"pid": 1}}}', '{"read": {"/a": 3}}', "null"]
)
def test_a_half_written_table_is_emptied(tmp_path: Path, text: str) -> None:
    table = write_table(tmp_path)
    table.write_text(text)

    assert clear_stale_locks(tmp_path) == [f"{table}: half-written lock table of a killed dvc"]
    assert json.loads(table.read_text()) == {}


def test_a_project_where_dvc_never_ran_has_nothing_to_clear(tmp_path: Path) -> None:
    assert clear_stale_locks(tmp_path) == []


def test_a_guard_that_is_never_freed_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = write_table(tmp_path).with_name("rwlock.lock")
    monkeypatch.setattr(flocked.__wrapped__, "__defaults__", (0.2,))  # patience

    with guard.open("a+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match=r"rwlock.lock: held by another process for 0 s. Find it with 'fuser .*'"):
            clear_stale_locks(tmp_path)


def lock_file(folder: Path) -> Path:
    """A dvc.lock of three stages, as dvc writes it."""
    entry = {"cmd": "x", "deps": [{"path": "a", "hash": "md5", "md5": "1" * 32, "size": 1}]}
    entry |= {
        "params": {"params.yaml": {"seed": 0}},
        "outs": [{"path": "b", "hash": "md5", "md5": "2" * 32, "size": 1}],
    }
    document = {"schema": "2.0", "stages": dict.fromkeys(("one", "two@a", "three@a-b"), entry)}
    (folder / ".dvc" / "tmp").mkdir(parents=True, exist_ok=True)
    path = folder / "dvc.lock"
    dumper = yaml.SafeDumper
    dumper.ignore_aliases = lambda self, data: True  # type: ignore[method-assign]
    path.write_text(yaml.dump(document, Dumper=dumper, sort_keys=False))
    return path


def test_a_whole_lock_file_is_not_touched(tmp_path: Path) -> None:
    path = lock_file(tmp_path)
    before = path.read_text()

    assert clear_leftovers(tmp_path) == []
    assert path.read_text() == before


def test_a_lock_file_cut_anywhere_keeps_every_whole_entry_and_nothing_else(tmp_path: Path) -> None:
    whole = lock_file(tmp_path).read_text()
    stages = yaml.safe_load(whole)["stages"]
    for end in range(0, len(whole), 7):
        path = lock_file(tmp_path)
        path.write_text(whole[:end])

        clear_leftovers(tmp_path)

        left = (yaml.safe_load(path.read_text()).get("stages") or {}) if path.exists() else {}
        last = whole[:end].rfind("\n  t")  # the entry in which it was cut; those before it are whole
        kept = [name for name in stages if whole.index(f"\n  {name}:") < last]
        assert all(left[name] == stages[name] for name in kept), end
        assert all(entry.items() <= stages[name].items() for name, entry in left.items()), end
        assert set(left) - set(kept) <= {list(stages)[len(kept)]}


def test_what_was_dropped_of_a_cut_lock_file_is_named(tmp_path: Path) -> None:
    path = lock_file(tmp_path)
    path.write_text(path.read_text()[:-20])

    assert clear_leftovers(tmp_path) == [f"{path}: half-written by a killed dvc; dropped: three@a-b"]


def test_an_empty_lock_file_goes(tmp_path: Path) -> None:
    path = lock_file(tmp_path)
    path.write_text("")

    assert clear_leftovers(tmp_path) == [f"{path}: emptied by a killed dvc; the results are in DVC's cache"]
    assert not path.exists()


def test_a_lock_file_with_conflict_markers_of_git_is_left_to_a_person(tmp_path: Path) -> None:
    path = lock_file(tmp_path)
    path.write_text(text := path.read_text().replace("  two@a:\n", "<<<<<<< HEAD\n  two@a:\n=======\n>>>>>>> main\n"))

    assert clear_leftovers(tmp_path) == []
    assert path.read_text() == text


def test_half_written_folders_are_swept_wherever_the_line_writes_them(tmp_path: Path, dead: int) -> None:
    for folder in ("", "data/raw", "out", "out/demo"):
        (tmp_path / folder / f".x.{dead}.partial").mkdir(parents=True)

    assert len(clear_leftovers(tmp_path)) == 4
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.slow
def test_what_a_killed_dvc_leaves_is_cleared_and_dvc_runs_again(tmp_path: Path) -> None:
    project = write_project(tmp_path, seconds=30)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "dvc", "repro", "train@tiny-a"]
    process = subprocess.Popen(command, cwd=project, env=environment, start_new_session=True)
    wait_until(lambda: (project / "started_a").exists(), "the stage")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert locks_in(project)

    removed = clear_stale_locks(project)

    assert removed
    assert not locks_in(project)
    (project / "go").touch()
    done = subprocess.run([*command[:3], "repro", "-s", "train@tiny-a"], cwd=project, env=environment)
    assert done.returncode == 0

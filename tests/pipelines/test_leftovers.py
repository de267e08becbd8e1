import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from isthmus.core.errors import StoreError
from isthmus.core.locks import flocked
from pipelines.leftovers import clear_stale_locks, is_alive
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
    table = write_table(tmp_path, write={"/a": {"pid": os.getpid(), "cmd": "repro"}})
    os.utime(table, (1, 1))

    removed = clear_stale_locks(tmp_path)

    assert len(removed) == 1
    assert not locks_in(tmp_path)


def test_a_half_written_table_is_emptied(tmp_path: Path) -> None:
    table = write_table(tmp_path)
    table.write_text('{"write": {"/a"')

    assert clear_stale_locks(tmp_path) == [f"{table}: half-written lock table of a killed dvc"]
    assert json.loads(table.read_text()) == {}


def test_a_project_where_dvc_never_ran_has_nothing_to_clear(tmp_path: Path) -> None:
    assert clear_stale_locks(tmp_path) == []


def test_a_guard_that_is_never_freed_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = write_table(tmp_path).with_name("rwlock.lock")
    monkeypatch.setattr(flocked.__wrapped__, "__defaults__", (0.2,))  # patience

    with guard.open("a+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match=r"rwlock.lock: held by another process for 0 s. See who with 'fuser .*'"):
            clear_stale_locks(tmp_path)


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

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from isthmus.core.errors import DataError
from isthmus.data import workers
from isthmus.data.workers import in_order
from tests.pipelines.tiny_project import default_signals

CHILD = """
from pathlib import Path
from isthmus.data.workers import in_order
from tests.data.test_workers import note_and_sleep
if __name__ == "__main__":
    list(in_order(note_and_sleep, [FOLDER] * 600, 2, 1, LONG))
"""

NEEDED = """
import os
with open(os.environ["IMPORTS"], "a") as stream:
    stream.write(f"{os.getpid()} ")
"""
WORK = """
def square(value):
    return value * value
"""
STARTED = """
from isthmus.data.workers import in_order
from line import needed
from line.work import square
if __name__ == "__main__":
    assert len(list(in_order(square, range(600), 2))) == 600
"""

ITSELF = """
from isthmus.data.workers import in_order
def square(value):
    return value * value
if __name__ == "__main__":
    from line import itself
    assert list(in_order(itself.square, [1, 2, 3], 2, long=True)) == [1, 4, 9]
"""


def square(value: int) -> int:
    return value * value


def is_worker() -> bool:
    return multiprocessing.parent_process() is not None


def die(value: int) -> int:
    if is_worker():
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return value


def slowly(value: int) -> int:
    time.sleep(0.005)
    return value


def process(value: int) -> int:
    time.sleep(0.01)
    return os.getpid()


def note_and_sleep(folder: str) -> None:
    if is_worker():
        (Path(folder) / f"{os.getpid()}.worker").touch()
    time.sleep(600 if is_worker() else 0.5)


def alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the second: it ended while it was read
        return False


@pytest.mark.parametrize("count", [1, 2])
def test_results_come_in_the_order_of_the_items_with_any_number_of_workers(count: int) -> None:
    assert list(in_order(square, range(500), count)) == [i * i for i in range(500)]


@pytest.mark.skipif(sys.platform != "linux", reason="a fork server")
def test_the_fork_server_imports_what_workers_need_once_and_for_all(tmp_path: Path) -> None:
    package = tmp_path / "line"
    package.mkdir()
    for name, text in {"__init__": "", "needed": NEEDED, "work": WORK, "started": STARTED}.items():
        (package / f"{name}.py").write_text(text)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "IMPORTS": str(tmp_path / "imports")}

    command = [sys.executable, "-m", "line.started"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    assert (done.returncode, done.stderr) == (0, "")
    assert len((tmp_path / "imports").read_text().split()) == 2  # the parent and the server, no worker


@pytest.mark.skipif(sys.platform != "linux", reason="a fork server")
def test_workers_of_a_module_that_imports_itself_by_its_name_warn_of_nothing(tmp_path: Path) -> None:
    package = tmp_path / "line"
    package.mkdir()
    for name, text in {"__init__": "", "itself": ITSELF}.items():
        (package / f"{name}.py").write_text(text)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}

    command = [sys.executable, "-m", "line.itself"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    assert (done.returncode, done.stderr) == (0, "")


def test_workers_of_a_stage_that_has_looked_at_a_model_import_no_torch() -> None:
    script = """
import subprocess, sys
import isthmus.models.backbones.timm  # imports torch
from isthmus.data.preprocess.prepare import prepare
from isthmus.data.workers import _modules
sys.modules["__main__"].__spec__ = type("Spec", (), {"name": "isthmus.stages.prepare"})
names = _modules(prepare)
assert "torch" in sys.modules and "isthmus.data.shards" in names
again = f"import sys, {', '.join(names)}; print('torch' in sys.modules)"
print(subprocess.run([sys.executable, "-c", again], capture_output=True, text=True, check=True).stdout.strip())
"""

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)

    assert (done.stdout, done.stderr) == ("False\n", "")


def test_few_items_need_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "ProcessPoolExecutor", None)

    assert list(in_order(square, range(10), 8)) == [i * i for i in range(10)]


def test_the_calling_process_computes_until_a_worker_is_there() -> None:
    processes = list(in_order(process, range(600), 2))

    own = [number == os.getpid() for number in processes]
    assert own[0]
    assert own == sorted(own, reverse=True)
    assert len(set(processes) - {os.getpid()}) == 2


def test_long_items_are_all_computed_by_workers() -> None:
    processes = list(in_order(process, range(2), 2, 1, long=True))

    assert os.getpid() not in processes


def test_a_killed_worker_is_reported_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"a worker process was killed.*'ingest\.workers: 1'"):
        list(in_order(die, range(500), 2))


def test_a_killed_worker_is_reported_with_the_setting_of_what_it_did() -> None:
    with pytest.raises(DataError, match=r"a worker process was killed.*'train\.workers: 1'"):
        list(in_order(die, [0, 1], 2, long=True, setting="train.workers"))


def test_a_worker_killed_while_another_starts_is_reported_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    submit = workers.ProcessPoolExecutor.submit

    def closed(pool: workers.ProcessPoolExecutor, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if call is int:  # the first worker
            return submit(pool, call, *arguments)
        raise OSError("handle is closed")

    monkeypatch.setattr(workers.ProcessPoolExecutor, "submit", closed)

    with pytest.raises(DataError, match=r"a worker process was killed.*'ingest\.workers: 1'"):
        list(in_order(slowly, range(2000), 2))


def test_a_worker_that_the_system_cannot_start_is_reported_as_the_system_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(workers.ProcessPoolExecutor, "submit", refused)

    with pytest.raises(OSError, match="Too many open files"):
        list(in_order(slowly, range(2000), 2))


def child_with_two_workers(folder: Path, long: bool) -> tuple[subprocess.Popen, list[int]]:
    """Starts a process with two workers; returns it and their process ids."""
    script = folder / "child.py"
    script.write_text(CHILD.replace("FOLDER", repr(str(folder))).replace("LONG", str(long)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, str(script)], env=environment, preexec_fn=default_signals)
    limit = time.monotonic() + 60
    while len(seen := list(folder.glob("*.worker"))) < 2 and time.monotonic() < limit:
        time.sleep(0.05)
    assert len(seen) == 2
    return child, [int(path.stem) for path in seen]


def ended(pids: list[int]) -> bool:
    limit = time.monotonic() + 30
    while any(map(alive, pids)) and time.monotonic() < limit:
        time.sleep(0.05)
    return not any(map(alive, pids))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_die_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    child, pids = child_with_two_workers(tmp_path, long=False)

    child.kill()
    child.wait()

    assert ended(pids)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_interrupt_does_not_wait_for_long_items(tmp_path: Path) -> None:
    child, pids = child_with_two_workers(tmp_path, long=True)  # which would take minutes

    child.send_signal(signal.SIGINT)

    assert child.wait(30) != 0
    assert ended(pids)

"""The same bytes on every engine: stages as processes of their own, on 2,000 images, undisturbed and with kills.

The table is written to docs/reliability.md; tests/stages/test_engines.py has 128 images.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.growth import command, write_project, write_raw
from isthmus.core.files import hash_files
from tests.pipelines.tiny_project import default_signals
from tests.soak.reliability import rows_of, write_section

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

IMAGES = 2000
ENGINES = ("dask workers=2 memory=3", "ray workers=2")
MADE = ("ingest", "labels", "prepare", "embed", "train")
TITLE = "Engines"
HOW = f"""{IMAGES:,} made images in two domains and one broken file. Each stage is a process of its own: first without
an engine, then on a cluster that it starts with two workers, then on such a cluster of which one worker is killed
(SIGKILL) while it computes. Files are compared byte for byte."""
HEAD = """| on two workers | workers killed | files compared with `local` | that differ |
| --- | ---: | ---: | ---: |"""


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images."""
    folder = tmp_path_factory.mktemp("engines") / "raw"
    write_raw(folder, IMAGES)
    (folder / "a" / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    return folder


@pytest.fixture(scope="module")
def line(raw: Path) -> Path:
    """The folder of `raw`, and in `local` what the stages make of it without an engine."""
    run_line(raw.parent / "local", "local")
    return raw.parent


@pytest.fixture
def found() -> Iterator[list[str]]:
    """Rows of the table, written to the page whatever became of them."""
    rows: list[str] = []
    yield rows
    by_name = {row.split("|")[1].strip(): row for row in rows}
    write_section(TITLE, "\n".join([f"{HOW}\n\n{HEAD}", *sorted((rows_of(TITLE) | by_name).values())]))


def row_of(engine: str, what: str, killed: int, compared: int, differing: int) -> str:
    """Returns a row of the table; its first cell is its name."""
    name = f"{engine.partition(' ')[0]}{', killed' if killed else ''}: {what}"
    return f"| {name} | {killed} | {compared} | {differing} |"


def run_line(project: Path, engine: str, kill: bool = False) -> int:
    """Runs all stages in a new project; returns how many workers were killed."""
    write_project(project)
    shutil.copytree(project.parent / "raw", project / "raw", copy_function=os.link)
    killed = 0
    for stage in MADE:
        start = time.monotonic()
        child = subprocess.Popen(
            command(stage), cwd=project, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"ISTHMUS_ENGINE": engine},
        )  # fmt: skip
        started = psutil.Process(child.pid)
        if kill and stage != "labels":
            killed += kill_a_worker(started)
        family = started.children(recursive=True)
        said = child.communicate(timeout=900)[1]
        print(f"{engine}, {stage}: {time.monotonic() - start:.1f} s")
        assert child.returncode == 0, said
        assert psutil.wait_procs(family, 30)[1] == [], f"{stage} on {engine} left processes"
    return killed


def kill_a_worker(stage: psutil.Process) -> bool:
    """Kills the first worker that computes; returns whether there was one before the stage ended."""
    if worker := first_worker(stage):
        worker.send_signal(signal.SIGKILL)
    return worker is not None


def first_worker(stage: psutil.Process) -> psutil.Process | None:
    """Waits for the first worker that computes; None: the stage ended before."""
    since: dict[int, float] = {}  # worker of Dask -> its processor time when it had joined the scheduler
    while stage.is_running() and stage.status() != psutil.STATUS_ZOMBIE:
        for process in stage.children(recursive=True):
            try:
                if process.name().startswith("ray::run_unit") or _computes(process, since):
                    return process
            except psutil.Error:
                continue
        time.sleep(0.02)
    return None


def _computes(process: psutil.Process, since: dict[int, float]) -> bool:
    if "--multiprocessing-fork" not in process.cmdline():
        return False
    if not any(connection.status == psutil.CONN_ESTABLISHED for connection in process.net_connections()):
        return False
    spent = sum(process.cpu_times()[:2])
    return spent - since.setdefault(process.pid, spent) > 0.2


@pytest.mark.parametrize("killed", [0, 4])
@pytest.mark.parametrize("engine", ENGINES)
def test_each_engine_makes_the_bytes_of_local_also_with_a_worker_killed_in_each_stage(
    line: Path, found: list[str], engine: str, killed: int
) -> None:
    project = line / f"{engine.partition(' ')[0]}-{killed}"

    assert run_line(project, engine, kill=killed > 0) == killed

    compared, differing = differences(line / "local", project)
    found.append(row_of(engine, "`ingest`, `prepare`, `embed`, `train`", killed, compared, len(differing)))
    assert differing == []


@pytest.mark.parametrize("engine", ENGINES)
def test_ctrl_c_ends_a_stage_with_one_line_and_leaves_no_process(line: Path, tmp_path: Path, engine: str) -> None:
    project = tmp_path / "project"
    shutil.copytree(line / "local", project, ignore=shutil.ignore_patterns("features", "cache", "raw", "train"))
    child = subprocess.Popen(
        command("embed"), cwd=project, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=default_signals, env=os.environ | {"ISTHMUS_ENGINE": engine},
    )  # fmt: skip
    started = psutil.Process(child.pid)

    assert (found := first_worker(started)) is not None
    family = started.children(recursive=True)
    os.killpg(child.pid, signal.SIGINT)
    said = child.communicate(timeout=60)[1]

    assert found in family
    assert child.returncode == 130 and said.splitlines()[-1].startswith("interrupted: "), said
    assert psutil.wait_procs(family, 30)[1] == []
    assert "Traceback" not in said


@pytest.mark.parametrize("killed", [0, 1])
@pytest.mark.parametrize("engine", ENGINES)
def test_predict_answers_the_same_rows_on_each_engine_also_with_a_worker_killed(
    raw: Path, published: tuple[Path, Any], tmp_path: Path, found: list[str], engine: str, killed: int
) -> None:
    project, model = published
    folder = tmp_path / "photos"
    shutil.copytree(raw, folder, copy_function=os.link)  # two units
    local, _ = predicted(project, model.model, folder, "local")

    answers, ended = predicted(project, model.model, folder, engine, killed > 0)

    found.append(row_of(engine, "`predict`", ended, 1, int(answers != local)))
    assert ended == killed
    assert answers == local


def predicted(project: Path, model: str, photos: Path, engine: str, kill: bool = False) -> tuple[bytes, int]:
    """Returns the bytes of the answers' file, and how many workers were killed."""
    out = photos.with_name("answers.parquet")
    out.unlink(missing_ok=True)
    child = subprocess.Popen(
        [sys.executable, "-m", "isthmus.cli", "predict", f"{model}@candidate", str(photos), "--out", str(out)],
        cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"ISTHMUS_ENGINE": engine},
    )  # fmt: skip
    killed = int(kill and kill_a_worker(psutil.Process(child.pid)))
    said = child.communicate(timeout=900)[1]
    assert child.returncode in (0, 5), said
    return out.read_bytes(), killed


def differences(one: Path, other: Path) -> tuple[int, list[str]]:
    """Returns how many files were compared, and those that differ."""
    files = {path.relative_to(one) for path in (one / "out").rglob("*") if path.is_file()}
    assert len(files) > 20
    assert files == {path.relative_to(other) for path in (other / "out").rglob("*") if path.is_file()}
    return len(files), [str(path) for path in sorted(files) if hash_files([one / path]) != hash_files([other / path])]

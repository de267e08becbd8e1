"""The same bytes on every engine: stages as processes of their own, on 600 images, undisturbed and with kills."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.growth import command, write_project, write_raw
from isthmus.core.files import hash_files
from tests.pipelines.tiny_project import default_signals
from tests.registry.project_files import MLFLOW_ON_PANDAS_3

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800), MLFLOW_ON_PANDAS_3]

IMAGES = 600
ENGINES = ("dask workers=2 memory=3", "ray workers=2")
MADE = ("ingest", "labels", "prepare", "embed", "train")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw images, and in `local` what the stages make of them without an engine."""
    folder = tmp_path_factory.mktemp("engines")
    write_raw(folder / "raw", IMAGES)
    (folder / "raw" / "a" / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    run_line(folder / "local", "local")
    return folder


def run_line(project: Path, engine: str, kill: bool = False) -> int:
    """Runs all stages in a new project; returns how many workers were killed."""
    write_project(project)
    shutil.copytree(project.parent / "raw", project / "raw", copy_function=os.link)
    killed = 0
    for stage in MADE:
        start = time.monotonic()
        child = subprocess.Popen(
            command(stage), cwd=project, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"ISTHMUS_ENGINE": engine, "OMP_WAIT_POLICY": "PASSIVE"},
        )  # fmt: skip
        started = psutil.Process(child.pid)
        if kill and stage != "labels":
            killed += kill_a_worker(started)
        family = started.children(recursive=True)
        said = child.communicate(timeout=300)[1]
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


@pytest.mark.parametrize("engine", ENGINES)
def test_each_engine_makes_the_bytes_of_local(line: Path, engine: str) -> None:
    project = line / engine.partition(" ")[0]

    run_line(project, engine)

    assert differences(line / "local", project) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_with_a_worker_killed_in_each_stage_the_bytes_are_the_same(line: Path, engine: str) -> None:
    project = line / f"killed-{engine.partition(' ')[0]}"

    assert run_line(project, engine, kill=True) == 4

    assert differences(line / "local", project) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_ctrl_c_ends_a_stage_with_one_line_and_leaves_no_process(line: Path, tmp_path: Path, engine: str) -> None:
    project = tmp_path / "project"
    shutil.copytree(line / "local", project, ignore=shutil.ignore_patterns("features", "cache", "raw", "train"))
    child = subprocess.Popen(
        command("embed"), cwd=project, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=default_signals, env=os.environ | {"ISTHMUS_ENGINE": engine, "OMP_WAIT_POLICY": "PASSIVE"},
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


@pytest.mark.parametrize("engine", ENGINES)
def test_predict_answers_the_same_rows_on_each_engine(
    line: Path, published: tuple[Path, Any], tmp_path: Path, engine: str
) -> None:
    project, model = published
    photos = sorted((line / "raw").rglob("*.jpg"))
    folder = tmp_path / "photos"
    for number in range(1_100):  # two units
        folder.mkdir(exist_ok=True)
        os.link(photos[number % len(photos)], folder / f"{number}.jpg")

    for name in ("local", engine):
        out = tmp_path / f"{name.partition(' ')[0]}.parquet"
        command = [sys.executable, "-m", "isthmus.cli", "predict", f"{model.model}@candidate", str(folder)]
        command += ["--out", str(out)]
        environment = os.environ | {"ISTHMUS_ENGINE": name, "OMP_WAIT_POLICY": "PASSIVE"}
        done = subprocess.run(
            [*command, "--out", str(out)], cwd=project, env=environment, capture_output=True, text=True
        )
        assert done.returncode in (0, 5), done.stderr

    answers = [path.read_bytes() for path in sorted(tmp_path.glob("*.parquet"))]
    assert len(answers) == 2 and answers[0] == answers[1]


def differences(one: Path, other: Path) -> list[str]:
    files = {path.relative_to(one) for path in (one / "out").rglob("*") if path.is_file()}
    assert len(files) > 20
    assert files == {path.relative_to(other) for path in (other / "out").rglob("*") if path.is_file()}
    return [str(path) for path in sorted(files) if hash_files([one / path]) != hash_files([other / path])]

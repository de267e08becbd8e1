"""The same bytes on every engine: stages as processes of their own, on 600 images, undisturbed and with kills."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
from PIL import Image

from isthmus.core.files import hash_files
from tests.raw_folders import pixels
from tests.registry.project_files import MLFLOW_ON_PANDAS_3

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800), MLFLOW_ON_PANDAS_3]

IMAGES = 600
ENGINES = ("dask workers=2 memory=3", "ray workers=2")
OUT = "out"
PARAMS: dict[str, Any] = {
    "scenarios": {
        "demo": {
            "kind": "natural",
            "raw": "raw",
            "source": ["a"],
            "target": "b",
            "target_labels": "folders",
            "classes": ["dull", "red"],
            "model": "tiny",
            "preprocess": {"image_size": 160, "channels": 3},
        }
    },
    "models": {
        "tiny": {
            "mode": "frozen",
            "backbone": {"name": "timm", "architecture": "test_vit", "weights": "random", "image_size": 160},
            "epochs": 4,
            "views": 1,
        }
    },
    "methods": {"coral": {"weight": 10.0}},
    "train": {"seeds": [0, 1], "batch_size": 64, "keep": 2},
    "embed": {"batch_size": 32},
    "ingest": {"workers": 2},
    "seed": 0,
}
# stage -> its arguments: the commands of dvc.yaml
STAGES = {
    "ingest": "--raw raw --manifest {o}/manifest.parquet --locations {o}/locations.parquet"
    " --companions {o}/companions.parquet --labels-target {o}/labels_target.parquet --audit {o}/audit.json"
    " --quarantine {o}/quarantine.json",
    "labels": "--labels labels --manifest {o}/manifest.parquet --measure {o}/labels_measure.parquet"
    " --train {o}/labels_train.parquet",
    "prepare": "--raw raw --manifest {o}/manifest.parquet --locations {o}/locations.parquet"
    " --companions {o}/companions.parquet --checkpoints checkpoints --prepared {o}/prepared"
    " --masks-target {o}/masks_target",
    "embed": "--prepared {o}/prepared --cache cache --features {o}/features --model {o}/model.json",
    "train": "--method coral --manifest {o}/manifest.parquet --prepared {o}/prepared --features {o}/features"
    " --labels-train {o}/labels_train.parquet --checkpoints checkpoints --trained {o}/train/coral",
}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw images, and in `local` what the stages make of them without an engine."""
    folder, rng = tmp_path_factory.mktemp("engines"), np.random.default_rng(0)
    for number in range(IMAGES):
        place = folder / "raw" / "ab"[number % 2] / ("dull", "red")[number // 2 % 2]
        place.mkdir(parents=True, exist_ok=True)
        image = pixels(rng, 64)
        image[..., 0] += np.uint8(60 * (number // 2 % 2))
        Image.fromarray(image).save(place / f"{number:05d}.png")
    (folder / "raw" / "a" / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    run_line(folder / "local", "local")
    return folder


def run_line(project: Path, engine: str, kill: bool = False) -> int:
    """Runs all stages in a new project; returns how many workers were killed."""
    (project / "labels").mkdir(parents=True)
    (project / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    shutil.copytree(project.parent / "raw", project / "raw", copy_function=os.link)
    killed = 0
    for stage, arguments in STAGES.items():
        command = [sys.executable, "-m", f"isthmus.stages.{stage}", "--params", "params.yaml", "--scenario", "demo"]
        start = time.monotonic()
        child = subprocess.Popen(
            [*command, *arguments.format(o=OUT).split()], cwd=project, stderr=subprocess.PIPE, text=True,
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
    since: dict[int, float] = {}  # worker of Dask -> its processor time when it had joined the scheduler
    while stage.is_running() and stage.status() != psutil.STATUS_ZOMBIE:
        for process in stage.children(recursive=True):
            try:
                if process.name().startswith("ray::run_unit") or _computes(process, since):
                    process.send_signal(signal.SIGKILL)
                    return True
            except psutil.Error:
                continue
        time.sleep(0.02)
    return False


def _computes(process: psutil.Process, since: dict[int, float]) -> bool:
    if "--multiprocessing-fork" not in process.cmdline():
        return False
    if not any(connection.status == psutil.CONN_ESTABLISHED for connection in process.net_connections()):
        return False
    spent = sum(process.cpu_times()[:2])
    return spent - since.setdefault(process.pid, spent) > 0.5


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
def test_predict_answers_the_same_rows_on_each_engine(
    line: Path, published: tuple[Path, Any], tmp_path: Path, engine: str
) -> None:
    project, model = published
    photos = sorted((line / "raw").rglob("*.png"))
    folder = tmp_path / "photos"
    for number in range(1_100):  # two units
        folder.mkdir(exist_ok=True)
        os.link(photos[number % len(photos)], folder / f"{number}.png")

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
    files = {path.relative_to(one) for path in (one / OUT).rglob("*") if path.is_file()}
    assert len(files) > 20
    assert files == {path.relative_to(other) for path in (other / OUT).rglob("*") if path.is_file()}
    return [str(path) for path in sorted(files) if hash_files([one / path]) != hash_files([other / path])]

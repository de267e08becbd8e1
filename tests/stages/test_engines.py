"""Stages on a real cluster of two workers make the bytes of this process; 2,000 images are in tests/soak."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.growth import command, write_project, write_raw
from isthmus.core.files import hash_files

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]

STAGES = {"dask": "prepare", "ray": "embed"}  # each engine one: a cluster takes seconds to start


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of 128 images, with what the stages make of them without an engine."""
    project = tmp_path_factory.mktemp("line") / "project"
    write_project(project)
    write_raw(project / "raw", 128)
    for stage in ("ingest", "prepare", "embed"):
        run(project, stage, "local")
    return project


def run(project: Path, stage: str, engine: str) -> None:
    environment = os.environ | {"ISTHMUS_ENGINE": engine}
    done = subprocess.run(command(stage), cwd=project, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("engine", STAGES)
def test_a_stage_on_a_cluster_makes_the_bytes_of_local(line: Path, tmp_path: Path, engine: str) -> None:
    pytest.importorskip({"dask": "distributed"}.get(engine, engine))
    made = {"prepare": "prepared", "embed": "features"}[STAGES[engine]]
    shutil.copytree(line, tmp_path / "project", ignore=shutil.ignore_patterns("cache", made))

    run(tmp_path / "project", STAGES[engine], f"{engine} workers=2")

    folders = [project / "out" / made for project in (line, tmp_path / "project")]
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*.*")) for folder in folders]
    assert files[0] == files[1] and len(files[0]) > 3
    assert hash_files([folders[0]]) == hash_files([folders[1]])

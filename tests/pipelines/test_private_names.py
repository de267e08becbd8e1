"""Of a medical scenario no part of a path reaches a log, a store or a record of runs: all of them are searched."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from isthmus.core.files import read_json
from tests.e2e.test_whole_line import ROOT, project, run
from tests.pipelines.test_transfer import environment

NAME = b"MUELLER_HANS"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    """A project whose files and folders are called after a patient; three files of it cannot be used."""
    folder, name = project(tmp_path / "project", kind="medical"), NAME.decode()
    for number, path in enumerate(sorted((folder / "data").rglob("*.png"))):
        place = path.parent / name / f"{name}-{number}.png"
        place.parent.mkdir(exist_ok=True)
        path.rename(place)
    good = folder / "data" / "raw" / "demo" / "line_a" / "good" / name
    (good / f"{name}.dcm").write_bytes(b"")
    (good / f"scan.{name}").write_bytes(b"\0\1\2")
    (good / f"{name}.png").symlink_to(f"{name}.dcm")
    return folder


def start(folder: Path, prefect_home: Path, *arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "isthmus.cli", "run", "demo", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(prefect_home) | extra, capture_output=True, text=True)


def holding(*folders: Path) -> Iterator[Path]:
    """Yields the files that hold the name, in whatever letters; raw data and their list of places apart."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and path.name != "locations.parquet" and NAME.lower() in path.read_bytes().lower():
                yield path


def set_limit(folder: Path, share: float) -> None:
    document = yaml.safe_load((folder / "params.yaml").read_text())
    document["ingest"] = {"max_bad_share": share}
    (folder / "params.yaml").write_text(yaml.safe_dump(document, sort_keys=False))


def test_a_flow_that_fails_on_medical_files_names_none_in_its_record(
    hospital: Path, tmp_path: Path, prefect_record: Path, prefect_api: str
) -> None:
    set_limit(hospital, 0.0)

    done = start(hospital, tmp_path / "prefect", "--no-check", "--no-publish", PREFECT_API_URL=prefect_api)

    assert done.returncode == 2
    assert "3 of 99 files cannot be used" in done.stderr
    assert "file 49: file is empty (0 bytes)" in done.stderr
    assert NAME.decode().casefold() not in f"{done.stdout}{done.stderr}".casefold()
    assert list(holding(prefect_record, tmp_path / "prefect", hospital / ".isthmus")) == []
    assert b"cannot be used" in b"".join(path.read_bytes() for path in prefect_record.glob("prefect.db*"))


@pytest.mark.soak
def test_a_whole_run_leaves_no_name_in_reports_models_or_stores(hospital: Path, prefect_home: Path) -> None:
    set_limit(hospital, 0.2)
    shutil.copy(ROOT / "requirements.lock", hospital)
    shutil.copy(ROOT / ".gitignore", hospital)
    run(hospital, "git", "add", "-A")
    identity = {f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["git", "commit", "-qm", "test"], cwd=hospital, env=os.environ | identity, check=True)

    done = start(hospital, prefect_home)

    assert done.returncode == 0, done.stderr
    assert NAME.decode().casefold() not in f"{done.stdout}{done.stderr}".casefold()
    quarantine = read_json(hospital / "out" / "demo" / "quarantine.json")
    assert len(quarantine) == 3 and all(entry["path"].startswith("file ") for entry in quarantine)
    places = (hospital / "out", hospital / ".isthmus", hospital / "mlartifacts", prefect_home)
    assert list(holding(*places)) == []
    assert NAME.lower() not in (hospital / "mlflow.db").read_bytes().lower()
    assert (hospital / "out" / "demo" / "report" / "report.html").is_file()

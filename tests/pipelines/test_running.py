import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.core.config import read_yaml
from isthmus.core.errors import ConfigError
from isthmus.core.params.params_copy import VARIABLE, as_started
from pipelines.running import check_free, running
from tests.pipelines.tiny_project import REPOSITORY, wait_until

HOLD = """\
import pathlib, time
from pipelines.running import running
with running(pathlib.Path.cwd(), ["steel", "blood"]):
    pathlib.Path("up").touch()
    time.sleep(600)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    return tmp_path


def test_a_second_run_of_a_scenario_is_told_who_runs_it_and_since_when(project: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=project, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}
    )
    try:
        wait_until(lambda: (project / "up").exists(), "the other run")

        message = (
            rf"steel: a run of it is under way \(process {other.pid}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\). Wait"
        )
        with pytest.raises(ConfigError, match=message):
            check_free(project, ["scenes", "steel"])
        with pytest.raises(ConfigError, match=message), running(project, ["steel"]):
            raise AssertionError("it must not begin")
        check_free(project, ["scenes"])
    finally:
        other.kill()
        other.wait()

    check_free(project, ["steel", "blood"])  # a killed run holds nothing


def test_a_run_that_has_just_begun_is_told_without_its_number(project: Path) -> None:
    with running(project, ["steel"]):
        (project / ".isthmus/running/steel.lock").write_text("")
        code = "from pathlib import Path; from pipelines.running import check_free; check_free(Path.cwd(), ['steel'])"
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=project, env=environment, capture_output=True, text=True
        )

    assert "ConfigError: steel: a run of it is under way. Wait for it, or end it" in done.stderr


def test_one_process_may_run_what_it_holds_already_and_then_it_is_free(project: Path) -> None:
    with running(project, ["steel"]), running(project, ["steel", "blood"]):
        assert json.loads((project / ".isthmus/running/steel.lock").read_text())["pid"] == os.getpid()

    check_free(project, ["steel", "blood"])


def test_stages_of_a_run_read_what_it_started_with_and_everyone_else_the_file(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(project, ["steel"]) as copy:
        (project / "params.yaml").write_text("seed: 2\n")
        (project / "sub").mkdir()
        (project / "sub" / "params.yaml").write_text("seed: 3\n")

        assert read_yaml(project / "params.yaml") == {"seed": 2}
        monkeypatch.setenv(VARIABLE, str(copy))
        assert read_yaml(project / "params.yaml") == {"seed": 1}
        assert read_yaml(project / "sub" / "params.yaml") == {"seed": 3}
        monkeypatch.chdir(project)
        assert read_yaml(Path("params.yaml")) == {"seed": 1}
        assert as_started(project / "dvc.lock") == project / "dvc.lock"


def test_an_error_in_the_copy_names_the_file_that_a_person_edits(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(project, ["steel"]) as copy:
        copy.write_text("seed: [\n")
        monkeypatch.setenv(VARIABLE, str(copy))

        with pytest.raises(ConfigError, match=rf"^{project}/params.yaml: line"):
            read_yaml(project / "params.yaml")

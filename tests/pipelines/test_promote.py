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


PUBLISH = ("-m", "isthmus.cli", "run", "demo", "--no-check")
# as a deployment runs the flow; its state is the last line
PROMOTE = (
    "-c",
    "from pipelines.promote import promote; end = promote('demo', return_state=True); print(end.name, end.message)",
)


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PREFECT_HOME": str(project.parent / "prefect")}
    return subprocess.run([sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True)


def test_finished_results_are_published_judged_and_promoted(project: Path, prefect_api: str) -> None:
    published = run(project, *PUBLISH)
    promoted = run(project, *PROMOTE)

    assert published.returncode == 0, published.stderr
    shown = ask(prefect_api, "artifacts/filter", {"artifacts": {"key": {"any_": ["verdict-demo"]}}})
    assert "**coral is better.** By 30 points." in shown[0]["data"]
    assert "/#/models/isthmus-demo/versions/1?" in shown[0]["data"]
    assert promoted.returncode == 0, promoted.stderr
    assert "isthmus-demo version 1 (no champion yet: a first promotion): yes" in promoted.stderr
    assert promoted.stdout.startswith("Completed isthmus-demo: champion is version 1")
    assert open_store(project).aliases("isthmus-demo") == {"candidate": "1", "champion": "1"}


@pytest.mark.soak
def test_results_that_are_not_published_are_a_failure_with_one_message(project: Path) -> None:
    done = run(project, *PROMOTE)

    assert done.stdout.startswith("Failed demo: its results are not in")
    assert "Run 'isthmus publish demo'" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.soak
def test_a_closed_gate_is_a_result_with_status_3_and_nothing_is_promoted(project: Path) -> None:
    write_json(project / "out/demo/truth.json", truth(coral=0.4, source_only=0.5))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    commit = [sys.executable, "-m", "dvc", "commit", "-q", "-f"]
    subprocess.run(commit, cwd=project, env=os.environ | {"PATH": path}, check=True)
    assert run(project, *PUBLISH).returncode == 0

    done = run(project, *PROMOTE)

    assert done.stdout.startswith("Refused ") and "the gate says no" in done.stdout, done.stderr
    assert "Traceback" not in done.stderr
    assert open_store(project).aliases("isthmus-demo") == {"candidate": "1"}

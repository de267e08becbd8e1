"""A real Prefect server, a real worker, the deployments of prefect.yaml: a cron schedule fires and the line runs."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.schedule import add
from tests.pipelines.tiny_project import REPOSITORY, wait_until, write_project
from tests.servers import free_port

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]
PREFECT = str(Path(sys.executable).with_name("prefect"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A tiny DVC project with the deployments of the flows, the cron set to every minute."""
    project = write_project(tmp_path / "project")
    document = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())
    nightly = document["deployments"][0]
    nightly["parameters"] = {"scenarios": ["tiny"], "publish": False, "check": False}
    nightly["schedules"][0]["cron"] = "* * * * *"
    (project / "prefect.yaml").write_text(yaml.safe_dump(document))
    add(project / "prefect.yaml", "tiny", "watch", "30 3 * * *", "Europe/Berlin")
    return project


@pytest.fixture
def start(project: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts long-lived programs; each is stopped by its own id afterwards."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*command: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"{len(started)}.log").open("wb")
        options: dict[str, Any] = {"stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
        started.append(subprocess.Popen(command, cwd=project, env=environment, **options))
        log.close()
        return started[-1]

    yield begin
    for process in reversed(started):
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ask(api: str, path: str, question: dict[str, Any] | None = None) -> Any:
    body = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(f"{api}/{path}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


def answers(api: str) -> bool:
    try:
        return bool(ask(api, "health"))
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def test_a_cron_schedule_fires_on_a_real_server_and_runs_the_line(
    project: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[bytes]]
) -> None:
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {
        "PREFECT_HOME": str(tmp_path / "home"),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    start(PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui", environment=environment)
    wait_until(lambda: answers(api), "the server", 120)
    for command in (["work-pool", "create", "isthmus", "--type", "process"], ["--no-prompt", "deploy", "--all"]):
        subprocess.run([PREFECT, *command], cwd=project, env=environment, check=True, timeout=120)

    health = free_port()
    worker = [
        PREFECT,
        "worker",
        "start",
        "--pool",
        "isthmus",
        "--type",
        "process",
        "--limit",
        "1",
        "--with-healthcheck",
    ]
    start(*worker, environment=environment | {"PREFECT_WORKER_WEBSERVER_PORT": str(health)})

    def scheduled() -> list[dict[str, Any]]:
        runs: list[dict[str, Any]] = ask(api, "flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC"})
        return [
            run for run in runs if run["auto_scheduled"] and run["state_type"] in ("COMPLETED", "FAILED", "CRASHED")
        ]

    wait_until(scheduled, "a scheduled run to end", 300)
    assert answers(f"http://127.0.0.1:{health}")  # what the image's HEALTHCHECK asks
    first = scheduled()[0]
    assert first["state_type"] == "COMPLETED", first["state"]
    assert first["state"]["message"] == "tiny: 4 stages, 0 unchanged"
    assert (project / "tiny.md").read_text() == "1a1b"
    tables = ask(api, "artifacts/filter", {"artifacts": {"key": {"any_": ["transfer"]}}})
    assert any("| report@tiny | done |" in table["data"] for table in tables)
    names = {deployment["name"]: deployment for deployment in ask(api, "deployments/filter", {})}
    assert set(names) == {"nightly", "morning", "watch", "watch-tiny"}
    own = names["watch-tiny"]
    assert own["parameters"] == {"scenario": "tiny"} and own["global_concurrency_limit"]["limit"] == 1
    assert (
        own["schedules"][0]["schedule"] | {"cron": "30 3 * * *", "timezone": "Europe/Berlin"}
        == own["schedules"][0]["schedule"]
    )
    assert names["morning"]["schedules"][0]["schedule"]["cron"] == "0 6 * * *"
    assert names["nightly"]["global_concurrency_limit"]["limit"] == 1

"""The two servers of compose.yaml, with its own commands and addresses, on a real Postgres without a container."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pipelines.tiny_project import REPOSITORY, wait_until
from tests.servers import PASSWORD, PROGRAMS, answers, free_port, psql, running_postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())


@pytest.fixture
def postgres() -> Iterator[int]:
    with running_postgres(COMPOSE["configs"]["databases"]["content"]) as port:
        ready = COMPOSE["services"]["postgres"]["healthcheck"]["test"][1:]
        subprocess.run([PROGRAMS[-1] / ready[0], *ready[1:], "--port", str(port)], check=True, capture_output=True)
        yield port


@pytest.mark.parametrize("name", [pytest.param("mlflow", marks=pytest.mark.soak), "prefect"])
def test_a_server_of_compose_runs_on_postgres_and_becomes_healthy(name: str, postgres: int, tmp_path: Path) -> None:
    service, port = COMPOSE["services"][name], free_port()
    places = {"0.0.0.0": "127.0.0.1", "/artifacts": str(tmp_path), "--port=5000": f"--port={port}"}
    places |= {"--port=4200": f"--port={port}"}
    pattern = re.compile("|".join(map(re.escape, places)))
    words = [pattern.sub(lambda found: places[found.group()], word) for word in service["command"]]
    settings = {
        key: value.replace("@postgres:5432", f"@127.0.0.1:{postgres}").replace("${POSTGRES_PASSWORD:?}", PASSWORD)
        for key, value in service["environment"].items()
    }
    environment = os.environ | settings | {"PREFECT_HOME": str(tmp_path / "home"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    check = service["healthcheck"]["test"][3]
    health = re.sub(r":(5000|4200)/", f":{port}/", re.search(r"http://[^']+", check).group())  # type: ignore[union-attr]
    with (tmp_path / "log").open("wb") as log:
        command = [str(Path(sys.executable).with_name(words[0])), *words[1:]]
        server = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )

    try:
        wait_until(lambda: answers(health), f"{name}: {health}", 150)
        address = next(value for value in settings.values() if "postgres" in value).replace("+asyncpg", "")
        question = "select count(*) from information_schema.tables where table_schema = 'public'"
        assert int(psql(postgres, address.rpartition("/")[2], question)) > 10
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)

"""The two servers of compose.yaml, with its own commands and addresses, on a real Postgres without a container."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pipelines.tiny_project import REPOSITORY, wait_until
from tests.require import require

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
PASSWORD = "letters0and1digits"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def postgres() -> Iterator[int]:
    """Starts a database as compose.yaml describes it and yields its port; initdb refuses root, so root steps down."""
    require("postgresql", bool(PROGRAMS))
    options: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="isthmus-postgres-"))
    try:
        if options:
            shutil.chown(folder, "nobody", "nogroup")
        (folder / "password").write_text(PASSWORD)
        (folder / "databases.sql").write_text(COMPOSE["configs"]["databases"]["content"])
        (folder / "password").chmod(0o644)
        (folder / "databases.sql").chmod(0o644)
        make = ["--username=isthmus", "--auth=scram-sha-256", f"--pwfile={folder}/password", "--no-sync"]
        subprocess.run(
            [PROGRAMS[-1] / "initdb", "-D", folder / "data", *make], check=True, capture_output=True, **options
        )
        port = free_port()
        serve = ["-D", folder / "data", "-p", str(port), "-k", folder, "-h", "127.0.0.1"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen([PROGRAMS[-1] / "postgres", *serve], stdout=log, stderr=log, **options)
        try:
            ready = COMPOSE["services"]["postgres"]["healthcheck"]["test"][1:]
            ready = [PROGRAMS[-1] / ready[0], *ready[1:], "--port", str(port)]
            wait_until(lambda: subprocess.run(ready, capture_output=True).returncode == 0, "the database", 60)
            login = ["-h", "127.0.0.1", "-p", str(port), "-U", "isthmus", "-d", "postgres", "-v", "ON_ERROR_STOP=1"]
            script = ["-f", str(folder / "databases.sql")]
            environment = os.environ | {"PGPASSWORD": PASSWORD}
            subprocess.run([PROGRAMS[-1] / "psql", "-q", *login, *script], check=True, env=environment)
            yield port
        finally:
            server.send_signal(signal.SIGINT)  # fast shutdown
            server.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("name", ["mlflow", "prefect"])
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

    def healthy() -> bool:
        try:
            with urllib.request.urlopen(health, timeout=4) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        wait_until(healthy, f"{name}: {health}", 150)
        address = next(value for value in settings.values() if "postgres" in value).replace("+asyncpg", "")
        question = "select count(*) from information_schema.tables where table_schema = 'public'"
        asked = [PROGRAMS[-1] / "psql", "-At", address, "-c", question]
        tables = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        assert int(tables) > 10
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)

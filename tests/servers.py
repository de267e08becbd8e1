"""Real servers on loopback for tests: Postgres without a container, MLflow, Prefect. Each dies with its block."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.pipelines.tiny_project import wait_until
from tests.require import require

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
PASSWORD = "letters0and1digits"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def answers(address: str) -> bool:
    """Says whether an HTTP server answers with 200."""
    try:
        with urllib.request.urlopen(address, timeout=4) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def database_address(port: int, database: str) -> str:
    """Returns the address of one database of `running_postgres`."""
    return f"postgresql://isthmus:{PASSWORD}@127.0.0.1:{port}/{database}"


def psql(port: int, database: str, statement: str) -> str:
    """Runs one statement and returns its rows, columns separated by `|`."""
    command = [PROGRAMS[-1] / "psql", "-At", "-v", "ON_ERROR_STOP=1", database_address(port, database), "-c", statement]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def running_postgres(script: str) -> Iterator[int]:
    """Starts a database with user `isthmus`, runs a script of SQL in it and yields its port.

    initdb refuses root, so root steps down.
    """
    require("postgresql", bool(PROGRAMS))
    options: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.getuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="isthmus-postgres-"))
    try:
        if options:
            shutil.chown(folder, "nobody", "nogroup")
        (folder / "password").write_text(PASSWORD)
        (folder / "databases.sql").write_text(script)
        (folder / "password").chmod(0o644)
        (folder / "databases.sql").chmod(0o644)
        make = ["--username=isthmus", "--auth=scram-sha-256", f"--pwfile={folder}/password", "--no-sync"]
        subprocess.run(
            [PROGRAMS[-1] / "initdb", "-D", folder / "data", *make], check=True, capture_output=True, **options
        )
        port = free_port()
        serve = ["-D", folder / "data", "-p", str(port), "-k", folder, "-h", "127.0.0.1", "-c", "fsync=off"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen([PROGRAMS[-1] / "postgres", *serve], stdout=log, stderr=log, **options)
        try:
            # over TCP, as compose.yaml's healthcheck
            ready = [PROGRAMS[-1] / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
            wait_until(lambda: subprocess.run(ready, capture_output=True).returncode == 0, "the database", 60)
            login = ["-h", "127.0.0.1", "-p", str(port), "-U", "isthmus", "-d", "postgres", "-v", "ON_ERROR_STOP=1"]
            environment = os.environ | {"PGPASSWORD": PASSWORD}
            command = [PROGRAMS[-1] / "psql", "-q", *login, "-f", str(folder / "databases.sql")]
            subprocess.run(command, check=True, env=environment)
            yield port
        finally:
            server.send_signal(signal.SIGQUIT)  # immediate shutdown: nothing in it is needed again
            server.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_mlflow(folder: Path, backend: str, port: int | None = None) -> Iterator[str]:
    """Starts MLflow's server on a database, its files and log in a folder, and yields its address."""
    port = port or free_port()
    command = f"mlflow server --host 127.0.0.1 --port {port} --workers 1 --backend-store-uri".split()
    command += [backend, "--artifacts-destination", str(folder / "files")]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    address = f"http://127.0.0.1:{port}"
    with _serving(command, folder, quiet, f"{address}/health"):
        yield address


@contextmanager
def running_prefect(folder: Path) -> Iterator[str]:
    """Starts Prefect's server, its record and log in a folder, and yields the address of its API."""
    port = free_port()
    command = f"prefect server start --host 127.0.0.1 --port {port} --no-ui".split()
    quiet = {"PREFECT_HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    address = f"http://127.0.0.1:{port}/api"
    with _serving(command, folder, quiet, f"{address}/health"):
        yield address


@contextmanager
def _serving(module: list[str], folder: Path, quiet: dict[str, str], health: str) -> Iterator[None]:
    with (folder / "server.log").open("a") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", *module],
            stdout=log, stderr=log, cwd=folder, env=os.environ | quiet, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: answers(health), f"an answer of {health}", 150)
        yield
    finally:
        os.killpg(child.pid, signal.SIGKILL)  # its own session: the server's workers go with it
        child.wait()

"""Real servers on loopback for tests: Postgres without a container, S3, MLflow, Prefect. Each dies with its block."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

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
def running_prefect(folder: Path, pages: bool = False) -> Iterator[str]:
    """Starts Prefect's server, its record and log in a folder, and yields the address of its API.

    Its pages ask port 4200 for everything, whatever port the server has, unless they are told the address.
    """
    port = free_port()
    command = f"prefect server start --host 127.0.0.1 --port {port} {'--ui' if pages else '--no-ui'}".split()
    quiet = {"PREFECT_HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    address = f"http://127.0.0.1:{port}/api"
    quiet |= {"PREFECT_UI_API_URL": address} if pages else {}
    with _serving(command, folder, quiet, f"{address}/health"):
        yield address


@contextmanager
def running_s3(folder: Path) -> Iterator[str]:
    """Starts an S3 server, empty and open to every key, its log in a folder, and yields its address."""
    port = free_port()
    with _serving(
        ["moto.server", "-H", "127.0.0.1", "-p", str(port)], folder, {}, f"http://127.0.0.1:{port}/moto-api/"
    ):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def running_block(block: str, folder: Path, environment: dict[str, str], health: str) -> Iterator[None]:
    """Starts the server of a documentation's block of shell commands, its log in a folder."""
    with _running(["bash", "-ec", block], folder, environment, health):
        yield


@contextmanager
def behind_token(address: str, token: str) -> Iterator[str]:
    """Yields the address of a web server that hands requests on to another one, if they bear the token."""

    class Door(BaseHTTPRequestHandler):
        def hand_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Authorization") != f"Bearer {token}":
                return self.answer(401, b"a token is needed", "text/plain")
            sent = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
            with httpx.Client(timeout=120, trust_env=False) as client:
                got = client.request(self.command, f"{address}{self.path}", headers=sent, content=body)
            return self.answer(got.status_code, got.content, got.headers.get("Content-Type", ""))

        def answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = hand_on  # noqa: N815 - http.server's names

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@contextmanager
def _serving(module: list[str], folder: Path, quiet: dict[str, str], health: str) -> Iterator[None]:
    with _running([sys.executable, "-m", *module], folder, os.environ | quiet, health):
        yield


@contextmanager
def _running(command: list[str], folder: Path, environment: dict[str, str], health: str) -> Iterator[None]:
    with (folder / "server.log").open("a") as log:
        child = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True
        )  # fmt: skip
    try:
        wait_until(lambda: answers(health), f"an answer of {health}", 150)
        yield
    finally:
        os.killpg(child.pid, signal.SIGKILL)  # its own session: the server's workers go with it
        child.wait()

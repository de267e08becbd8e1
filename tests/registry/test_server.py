"""The same protocol against a real MLflow server on loopback."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from isthmus.core.errors import StoreError
from isthmus.registry.decision import gate
from isthmus.registry.promotion import promote
from isthmus.registry.publish import publish
from isthmus.registry.stores import open_store
from tests.registry.project_files import MLFLOW_ON_PANDAS_3

pytestmark = [pytest.mark.slow, MLFLOW_ON_PANDAS_3]


@pytest.fixture
def server(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/server.db",
        "--artifacts-destination",
        str(tmp_path / "files"),
    ]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (tmp_path / "server.log").open("w") as log:
        child = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=tmp_path, env=os.environ | quiet, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(address)
        yield address
    finally:
        os.killpg(child.pid, signal.SIGKILL)  # its own session: the server's workers go with it
        child.wait()


def test_publish_gate_and_promote_work_on_a_server(project, server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)

    found = publish(project, "demo")

    assert (found.tracking_uri, found.version) == (server, "1")
    assert not publish(project, "demo").new
    assert gate(project, "demo").verdict == "yes"
    with pytest.raises(StoreError, match=r"ISTHMUS_PROMOTION_DB is not set, and the store http://127.* is a server"):
        promote(project, "demo")
    monkeypatch.setenv("ISTHMUS_PROMOTION_DB", str(tmp_path / "shared.db"))
    assert promote(project, "demo").champion == "1"
    assert open_store(project).aliases("isthmus-demo") == {"candidate": "1", "champion": "1"}
    assert not (project / "mlflow.db").exists()


def _wait(address: str) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"no server at {address}")

"""The image of Dockerfile, built without a daemon, and the servers and the worker of compose.yaml started from it."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.repo import REPOSITORY
from tests.require import require
from tests.servers import answers, free_port

TAG = "localhost/isthmus-soak"
pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    require("buildah", os.getuid() == 0 and shutil.which("buildah") is not None)
    require("debootstrap", shutil.which("debootstrap") is not None)
    done = subprocess.run([REPOSITORY / ".ci" / "container", TAG], capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    yield TAG
    subprocess.run(["buildah", "rmi", "--force", TAG], capture_output=True, check=False)


@contextmanager
def started(image: str, *command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a command in a container of its own, as compose.yaml does: the image's user, in /project."""
    container = subprocess.run(
        ["buildah", "from", "--pull-never", image], capture_output=True, text=True, check=True
    ).stdout.strip()
    given = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
    words = ["buildah", "run", "--isolation", "chroot", "--network", "host", *given, container, "--", *command]
    process = subprocess.Popen(words, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        subprocess.run(["buildah", "rm", container], capture_output=True, check=False)


def comes_up(address: str, process: subprocess.Popen[bytes], seconds: float = 240) -> bool:
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up and process.poll() is None:
        if answers(address):
            return True
        time.sleep(1)
    return False


def test_the_image_has_the_command_as_a_user_without_rights(image: str) -> None:
    with started(image, "sh", "-c", "isthmus --version && test $(id -u) = 1000 && ! test -w /opt/venv") as process:
        assert process.wait(120) == 0


def test_the_servers_answer_and_the_worker_serves_its_pool(image: str) -> None:
    mlflow, prefect = free_port(), free_port()
    with (
        started(image, "mlflow", "server", "--host=127.0.0.1", f"--port={mlflow}", "--artifacts-destination=/artifacts",
                "--serve-artifacts", "--backend-store-uri=sqlite:////tmp/mlflow.db") as tracking,
        started(image, "prefect", "server", "start", "--host=127.0.0.1", f"--port={prefect}") as orchestration,
    ):  # fmt: skip
        assert comes_up(f"http://127.0.0.1:{mlflow}/health", tracking)
        assert comes_up(f"http://127.0.0.1:{prefect}/api/health", orchestration)
        assert answers(f"http://127.0.0.1:{prefect}/"), "Prefect's pages are there"
        api = f"http://127.0.0.1:{prefect}/api"
        pool = "prefect work-pool create isthmus --type process && prefect --no-prompt deploy --all"
        with started(image, "sh", "-ec", pool, PREFECT_API_URL=api) as deploy:
            assert deploy.wait(180) == 0
        worker = ["prefect", "worker", "start", "--pool", "isthmus", "--type", "process", "--with-healthcheck"]
        with started(image, *worker, PREFECT_API_URL=api, PREFECT_WORKER_WEBSERVER_PORT="8093") as work:
            assert comes_up("http://127.0.0.1:8093/health", work)

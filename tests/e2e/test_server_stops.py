"""MLflow's server stops in the middle of training: the line ends all the same, and is published when it is back."""

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import mlflow
import pytest

from tests.e2e.test_whole_line import ROOT, project, run
from tests.servers import free_port, running_mlflow

PUBLISH = [sys.executable, "-m", "isthmus.cli", "publish", "demo"]


@pytest.mark.soak  # 80 s
@pytest.mark.timeout(900)
def test_training_ends_without_the_server_and_the_same_command_logs_it_once_when_it_is_back(tmp_path: Path) -> None:
    folder = project(tmp_path / "project")
    shutil.copy(ROOT / "requirements.lock", folder)
    (folder / "params.yaml").write_text((folder / "params.yaml").read_text().replace("  zscore: {}\n", ""))
    run(folder, "git", "-c", "user.name=t", "-c", "user.email=t", "commit", "-q", "--allow-empty", "-m", "first")
    port, backend = free_port(), f"sqlite:///{tmp_path}/server.db"
    address = f"http://127.0.0.1:{port}"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"MLFLOW_TRACKING_URI": address, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    with ExitStack() as server:
        server.enter_context(running_mlflow(tmp_path, backend, port))
        command = [sys.executable, "-m", "dvc", "repro", "report@demo"]
        line = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
        assert line.stdout
        for said in line.stdout:
            if "Running stage 'train@demo-" in said:
                server.close()  # training has begun; the server is killed
        line.stdout.close()

        ended = line.wait()
    down = subprocess.run(PUBLISH, cwd=folder, env=environment, capture_output=True, text=True)
    with running_mlflow(tmp_path, backend, port):
        back = subprocess.run(PUBLISH, cwd=folder, env=environment, capture_output=True, text=True)
        again = subprocess.run(PUBLISH, cwd=folder, env=environment, capture_output=True, text=True)
        client = mlflow.MlflowClient(address, address)
        runs = client.search_runs([client.get_experiment_by_name("isthmus-demo").experiment_id])
        versions = client.search_model_versions("name = 'isthmus-demo'")

    assert ended == 0
    assert (folder / "out" / "demo" / "report" / "report.html").is_file()
    assert down.returncode == 2
    assert f"error: the MLflow store {address} " in down.stderr
    assert "Nothing is lost" in down.stderr
    assert "run the same command again" in down.stderr
    assert "Traceback" not in down.stderr
    assert (back.returncode, again.returncode) == (0, 0), back.stderr + again.stderr
    assert "isthmus-demo version 1 (new)" in back.stdout
    assert "isthmus-demo version 1 (as before)" in again.stdout
    assert (len(runs), len(versions)) == (3, 1)  # the scenario and two seeds of one method

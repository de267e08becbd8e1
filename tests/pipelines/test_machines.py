"""Machines as people have them: a user id without a name, no home, a dead proxy, folders that cannot be written."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pipelines.tiny_project import REPOSITORY, write_project
from tests.raw_folders import pixels

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
# In a name space of its own the process owns the files, bears an id that has no name, and has no rights of root.
NAMELESS = ["unshare", "--user", "--map-user=54321", "--map-group=54321"]
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy")
DEAD_PROXY = dict.fromkeys(PROXIES, "http://127.0.0.1:9")


def nameless(project: Path, *command: str, **extra: str) -> subprocess.CompletedProcess[str]:
    if not shutil.which("unshare") or subprocess.run([*NAMELESS, "true"], capture_output=True).returncode:
        pytest.skip("this machine makes no name spaces of users")  # a matter of its kernel, not of a package
    unset = ("HOME", "USER", "LOGNAME", "PREFECT_API_URL", "NO_PROXY", "no_proxy")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}", **DEAD_PROXY, **extra}
    return subprocess.run(
        [*NAMELESS, sys.executable, "-m", *command], cwd=project, env=environment, capture_output=True, text=True
    )


@pytest.mark.soak
def test_a_nameless_user_without_a_home_behind_a_dead_proxy_runs_the_line(tmp_path: Path, prefect_api: str) -> None:
    project = write_project(tmp_path / "project")

    done = nameless(project, "isthmus.cli", "run", "tiny", "--no-check", "--no-publish", PREFECT_API_URL=prefect_api)

    assert done.returncode == 0, done.stderr
    assert (project / "tiny.md").read_text() == "1a1b"
    assert sorted(p.name for p in project.iterdir() if p.name.startswith("~")) == []


@pytest.mark.parametrize("command", [["run"], ["add", "x", "--source", "a", "--target", "b", "--kind", "natural"]])
def test_a_project_that_cannot_be_written_is_told_in_one_line(tmp_path: Path, command: list[str]) -> None:
    project = write_project(tmp_path / "project")
    rng = np.random.default_rng(0)
    for name in ("a/x", "a/y", "b"):
        (project / name).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(pixels(rng)).save(project / name / f"{number}.png")
    (project / ".dvc/tmp").chmod(0o555)
    project.chmod(0o555)
    try:
        done = nameless(project, "isthmus.cli", *command)
    finally:
        project.chmod(0o755)

    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ") and "no permission. Correct the permissions" in last
    assert "Traceback" not in done.stderr

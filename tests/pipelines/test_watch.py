"""The flow `watch` as a user starts it: what stands in its way is one clear line and its exit status."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.core.errors import ConfigError
from pipelines.watch import _watched
from tests.pipelines.tiny_project import REPOSITORY
from tests.registry.project_files import build_project


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_a_champion_the_command_ends_with_2_and_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_api: str
) -> None:
    for name in ("MLFLOW_TRACKING_URI", "ISTHMUS_PROMOTION_DB"):
        monkeypatch.delenv(name, raising=False)
    project = build_project(tmp_path / "project")
    environment = os.environ | {
        "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}",
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": prefect_api,
    }
    command = [sys.executable, "-m", "isthmus.cli", "watch", "demo", str(tmp_path)]

    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)

    assert done.returncode == 2, done.stderr
    assert "error: isthmus-demo: there is no champion in" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("place", [None, Path(__file__)])
def test_adapting_needs_the_images_themselves(place: Path | None) -> None:
    with pytest.raises(ConfigError, match="--adapt: needs images, and stored statistics contain none. Name"):
        _watched("demo", place, adapt=True)

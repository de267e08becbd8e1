"""The flow `watch` as a user starts it: what stands in its way is one clear line and its exit status."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.core.errors import ConfigError
from isthmus.core.locks import flocked
from isthmus.core.params.params_copy import FOLDER
from pipelines import watch
from tests.pipelines.tiny_project import REPOSITORY

NO_CHAMPION = "isthmus-demo: there is no champion in"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_a_champion_the_command_ends_with_2_and_one_clear_line(
    project: Path, tmp_path: Path, prefect_api: str
) -> None:
    environment = os.environ | {
        "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}",
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    before = [sys.executable, "-m", "isthmus.cli", "watch", "demo", str(tmp_path)]
    code = (
        "import pathlib, pipelines.watch as w; w.find_champion = lambda *_: None;"
        "raise SystemExit(w.main('demo', pathlib.Path(), False))"
    )

    done = subprocess.run(
        before, cwd=project, env=environment | {"PREFECT_API_URL": "http://127.0.0.1:9/api"}, capture_output=True,
        text=True,
    )  # fmt: skip
    inside = subprocess.run(  # the champion went away since: the flow's own task fails
        [sys.executable, "-c", code], cwd=project, env=environment | {"PREFECT_API_URL": prefect_api},
        capture_output=True, text=True,
    )  # fmt: skip

    assert (done.returncode, inside.returncode) == (2, 2), done.stderr + inside.stderr
    assert done.stderr.startswith(f"error: {NO_CHAMPION}")
    assert inside.stderr.startswith(f"error: {NO_CHAMPION}")
    assert (done.stderr.count(NO_CHAMPION), inside.stderr.count(NO_CHAMPION)) == (1, 1)
    assert "Traceback" not in done.stderr + inside.stderr


def test_no_images_are_brought_in_while_another_run_of_the_scenario_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    monkeypatch.setattr(watch, "bring_in", lambda *_, **__: pytest.fail("brought in"))

    with (
        flocked(tmp_path / FOLDER / "demo.lock"),
        pytest.raises(ConfigError, match=r"demo: a run of it is under way\. Wait for it, or end it"),
    ):
        watch._adapted("demo", None)  # type: ignore[arg-type] # it is refused before the batch is looked at


@pytest.mark.parametrize("place", [None, Path(__file__)])
def test_adapting_needs_the_images_themselves(place: Path | None) -> None:
    with pytest.raises(ConfigError, match="--adapt: needs images, and stored statistics contain none. Name"):
        watch._watched("demo", place, adapt=True)

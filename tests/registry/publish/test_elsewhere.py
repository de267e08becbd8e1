"""Verbs in a project without a store: each says so and writes nothing."""

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from isthmus.cli import app
from isthmus.core.errors import IsthmusError
from tests.registry.versions import add_version, decide

VERBS = [
    "promote demo", "rollback demo", "rollback demo --withdraw",
    "trace demo@champion", "trace --group 7", "predict demo photo.png", "serve demo", "reproduce demo",
]  # fmt: skip


def make_project(folder: Path) -> None:
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    for name in ("params.yaml", "dvc.yaml"):
        if not (folder / name).exists():
            (folder / name).write_text("{}")


@pytest.mark.parametrize("verb", VERBS)
def test_a_project_in_which_nothing_was_published_says_so_and_no_store_is_made(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path)
    (tmp_path / "photo.png").write_bytes(b"")

    done = CliRunner().invoke(app, verb.split())

    assert isinstance(done.exception, IsthmusError)
    assert "no such store: nothing was published to it. Run 'isthmus publish SCENARIO'" in str(done.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".git", "dvc.yaml", "params.yaml", "photo.png"]


def test_a_champion_is_withdrawn_on_the_command_line(empty_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(empty_files, add_version(empty_files), None)
    make_project(empty_files)
    monkeypatch.chdir(empty_files)

    commands = ("promote demo", "rollback demo --withdraw")
    said = [CliRunner().invoke(app, verb.split(), catch_exceptions=False).output for verb in commands]

    assert said[0].endswith("isthmus-demo: champion is now version 1, previous none\n")
    assert said[1].endswith("isthmus-demo: champion is now none, previous none\n")

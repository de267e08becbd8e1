"""Every verb in a folder that is no project, and in a project without a store: it says so and writes nothing."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from isthmus.cli import app
from isthmus.core.errors import IsthmusError
from isthmus.registry.watch import watch
from tests.registry.versions import add_version, decide

VERBS = [
    "publish demo", "score demo", "gate demo", "promote demo", "rollback demo", "rollback demo --withdraw",
    "trace demo@champion", "trace --group 7", "predict demo photo.png", "serve demo", "reproduce demo",
]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_a_wrong_folder_is_told_and_left_as_it_is(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(b"")

    done = CliRunner().invoke(app, verb.split())

    assert isinstance(done.exception, IsthmusError)
    assert "in the project's root" in str(done.exception)
    assert str(tmp_path) in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb.split()[0] not in ("publish", "score", "gate")])
def test_a_project_in_which_nothing_was_published_says_so_and_no_store_is_made(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("{}")
    (tmp_path / "photo.png").write_bytes(b"")

    done = CliRunner().invoke(app, verb.split())

    assert isinstance(done.exception, IsthmusError)
    assert "no such store: nothing was published to it. Run 'isthmus publish SCENARIO'" in str(done.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml", "photo.png"]


def test_watching_a_wrong_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(IsthmusError, match=r"params.yaml: no such file. Run the command in the project's root"):
        watch(tmp_path, "demo")
    assert list(tmp_path.iterdir()) == []


def test_a_champion_is_withdrawn_on_the_command_line(empty_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(empty_files, add_version(empty_files), None)
    monkeypatch.chdir(empty_files)

    said = [CliRunner().invoke(app, verb.split()).output for verb in ("promote demo", "rollback demo --withdraw")]

    assert said[0].endswith("isthmus-demo: champion is now version 1, previous none\n")
    assert said[1].endswith("isthmus-demo: champion is now none, previous none\n")

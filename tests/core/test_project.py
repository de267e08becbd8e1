from pathlib import Path

import pytest

from isthmus.core.errors import ConfigError
from isthmus.core.project import check_repository, find_project


def project(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("params.yaml", "dvc.yaml"):
        (folder / name).touch()
    return folder


def test_a_folder_of_the_project_finds_its_root_and_the_nearest_one(tmp_path: Path) -> None:
    outer, inner = project(tmp_path), project(tmp_path / "a" / "inner")
    (inner / "b").mkdir()

    assert find_project(outer) == outer
    assert find_project(tmp_path / "a") == outer
    assert find_project(inner / "b") == inner


def test_outside_of_a_project_it_is_said_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r": not in a project: neither this folder .* params.yaml and dvc.yaml. Change"
    ):
        find_project(tmp_path)


def test_a_project_that_lost_one_of_its_files_is_told_which(tmp_path: Path) -> None:
    project(tmp_path)
    (tmp_path / "dvc.yaml").unlink()

    with pytest.raises(ConfigError, match=r"has no dvc.yaml: 'git checkout dvc.yaml' restores a deleted one"):
        find_project(tmp_path)


def test_a_current_folder_that_was_deleted_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    with pytest.raises(ConfigError, match="the current folder was deleted"):
        find_project()


def test_a_project_out_of_an_archive_is_told_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not in a git repository .* run 'git init', 'git add -A' and 'git commit"):
        check_repository(project(tmp_path / "a"))

    (tmp_path / ".git").mkdir()
    check_repository(tmp_path / "a")


def test_a_project_whose_dvc_does_without_git_is_left_alone(tmp_path: Path) -> None:
    (project(tmp_path) / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")

    check_repository(tmp_path)

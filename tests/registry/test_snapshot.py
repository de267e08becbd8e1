import time

import pytest

from isthmus.core.errors import StoreError
from isthmus.registry.snapshot import take_snapshot
from tests.registry.project_files import commit, git


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("*.db\n")
    (tmp_path / "code.py").write_text("one")
    commit(tmp_path)
    return tmp_path


def test_a_clean_tree_is_its_own_commit_and_is_kept(repository):
    taken = take_snapshot(repository)

    assert taken.snapshot == taken.commit == git(repository, "rev-parse", "HEAD")
    assert git(repository, "for-each-ref", "--format=%(refname)", "refs/isthmus") == f"refs/isthmus/{taken.commit}"


def test_changed_staged_deleted_and_untracked_files_are_recorded_and_ignored_ones_are_not(repository):
    (repository / "staged.py").write_text("staged")
    git(repository, "add", "staged.py")
    (repository / "new.py").write_text("new")
    (repository / "store.db").write_text("ignored")
    (repository / "code.py").unlink()

    taken = take_snapshot(repository)

    assert taken.snapshot != taken.commit
    assert git(repository, "ls-tree", "--name-only", taken.snapshot).split() == [".gitignore", "new.py", "staged.py"]
    assert git(repository, "rev-parse", f"{taken.snapshot}^") == taken.commit


def test_index_branch_and_working_tree_stay_as_they_are(repository):
    (repository / "code.py").write_text("two")
    (repository / "new.py").write_text("new")
    before = (
        git(repository, "status", "--porcelain", "--branch"),
        git(repository, "log", "--all", "--format=%H", "main"),
    )

    take_snapshot(repository)

    after = git(repository, "status", "--porcelain", "--branch"), git(repository, "log", "--format=%H", "main")
    assert after == before


def test_the_same_tree_on_the_same_commit_is_the_same_snapshot(repository):
    (repository / "code.py").write_text("two")

    assert take_snapshot(repository) == take_snapshot(repository)


def test_an_edit_of_the_same_size_and_second_as_the_commit_is_seen_a_second_later(repository):
    (repository / "code.py").write_text("two")
    time.sleep(1.1)  # a copy of git's index that looks newer than the edit would hide it

    assert git(repository, "show", f"{take_snapshot(repository).snapshot}:code.py") == "two"


def test_a_snapshot_outlives_garbage_collection(repository):
    (repository / "code.py").write_text("two")
    taken = take_snapshot(repository)
    git(repository, "checkout", "-q", "code.py")

    git(repository, "gc", "-q", "--prune=now")

    assert git(repository, "show", f"{taken.snapshot}:code.py") == "two"


def test_it_works_from_a_folder_inside_the_repository_and_with_git_variables_set(repository, monkeypatch):
    (repository / "inside").mkdir()
    (repository / "outside.py").write_text("new")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere")

    taken = take_snapshot(repository / "inside")

    assert "outside.py" in git(repository, "ls-tree", "--name-only", taken.snapshot).split()


def test_a_repository_without_a_commit_says_what_to_do(tmp_path):
    git(tmp_path, "init", "-q")

    with pytest.raises(StoreError, match=r"the repository has no commit yet.*Run 'git add -A' and 'git commit"):
        take_snapshot(tmp_path)


def test_a_folder_outside_git_says_what_to_do(tmp_path):
    with pytest.raises(StoreError, match=r"not in a git repository.*Run 'git init' and commit"):
        take_snapshot(tmp_path)


def test_a_machine_without_git_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(StoreError, match="git is not installed"):
        take_snapshot(tmp_path)


def test_another_failure_of_git_is_passed_on_with_its_words(repository):
    (repository / ".git" / "index").write_text("broken")
    (repository / "code.py").write_text("two")

    with pytest.raises(StoreError, match=r"'git add --all -- \.' failed in"):
        take_snapshot(repository)

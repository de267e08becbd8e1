import os
import shutil
import subprocess
import time

import pytest

from isthmus.core.errors import StoreError
from isthmus.core.process.supervisor import descendants
from isthmus.registry.lineage.git import run_git
from isthmus.registry.lineage.git_remote import push
from isthmus.registry.lineage.snapshot import take_snapshot
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


def files(repository, commit):
    return set(git(repository, "ls-tree", "-r", "--name-only", commit).split())


def write(repository, *paths, content="text"):
    for path in paths:
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        (repository / path).write_text(content)


def test_changed_staged_and_deleted_files_are_recorded(repository):
    write(repository, "staged.py", "changed.py")
    commit(repository)
    write(repository, "staged_later.py", "changed.py", content="more")
    git(repository, "add", "staged_later.py")
    (repository / "code.py").unlink()

    taken = take_snapshot(repository)

    assert taken.snapshot != taken.commit
    assert files(repository, taken.snapshot) == {".gitignore", "staged.py", "staged_later.py", "changed.py"}
    assert git(repository, "show", f"{taken.snapshot}:changed.py") == "more"
    assert git(repository, "rev-parse", f"{taken.snapshot}^") == taken.commit
    assert (taken.left_out, taken.refused, taken.news(names=True)) == ((), (), [])


NEEDED = [
    "params.yaml", "dvc.yaml", "dvc.lock", "prefect.yaml", "requirements.lock", ".dvc/config", "data/raw/steel.dvc",
    "data/raw/.gitignore", "elsewhere/photos.raw.dvc", "plugins/adapt/methods/mine.py", "src/isthmus/new.py",
    "src/isthmus/report/templates/new.jinja",
]  # fmt: skip
LEFT = [
    "secrets.txt", "notes.md", "incoming/smith/x.dcm", "incoming/IM0001", "plugins/weights.pt", "plugins/notes.txt",
    "plugins/table.csv", "src/key.pem", "data/raw/patients.csv.dvc", "elsewhere/other.dvc", "labels.csv", ".env",
    "id_rsa", "credentials.json", "requirements.pem", ".dvc/config.local",
]  # fmt: skip


def test_of_untracked_files_those_are_taken_that_the_pipeline_needs_and_no_other(repository):
    write(repository, *NEEDED, *LEFT)
    write(repository, "params.yaml", content="scenarios: {mine: {raw: elsewhere/photos.raw}}")
    write(repository, ".gitignore", content="*.db\ndvc.lock\nout\n/data/raw/*\n!/data/raw/*.dvc\n")
    write(repository, "out/model.py", "data/raw/steel/1.png")  # ignored, so not even named

    taken = take_snapshot(repository)

    assert files(repository, taken.snapshot) == {".gitignore", "code.py", *NEEDED}
    assert set(taken.left_out) == set(LEFT)
    (told,) = taken.news(names=True)
    assert told.startswith(f"snapshot: untracked files that are not in it: {len(LEFT)} (.")
    assert "smith" not in told
    assert taken.news(names=False)[0].startswith(f"snapshot: untracked files that are not in it: {len(LEFT)}. What the")


def test_a_project_inside_a_repository_takes_its_own_files_and_leaves_those_beside_it(repository):
    write(repository, "line/params.yaml", "line/plugins/mine.py", "line/data/raw/a.dvc", "params.yaml", "plugins/x.py")

    taken = take_snapshot(repository / "line")

    new = files(repository, taken.snapshot) - files(repository, taken.commit)
    assert new == {"line/params.yaml", "line/plugins/mine.py", "line/data/raw/a.dvc"}


@pytest.mark.parametrize(
    "name", ["x.dcm", "scan.nii.gz", ".env", "model.safetensors", "id_ed25519", "table.csv", "a.PNG"]
)
def test_data_models_and_keys_are_refused_though_they_were_put_under_git(repository, name):
    write(repository, f"kept/{name}", content="old")
    commit(repository)
    write(repository, f"kept/{name}", content="changed")
    write(repository, f"kept/new_{name}" if not name.startswith((".", "id_")) else f"other/{name}")
    git(repository, "add", "--force", "--all")
    write(repository, f"kept/{name}", content="changed again")

    taken = take_snapshot(repository)

    assert taken.snapshot == taken.commit
    assert len(taken.refused) == 2
    assert "data, model or key files in git whose changes are not in it: 2 (kept/ (" in taken.news(names=True)[0]
    git(repository, "rm", "-q", "--cached", "--force", f"kept/{name}")
    (repository / "kept" / name).unlink()
    assert f"kept/{name}" not in files(repository, take_snapshot(repository).snapshot)  # nothing leaks by a deletion


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("plugins/a.py", b"bytes \0 of no text"),
        ("incoming/IM0001", b"\0" * 128 + b"DICM"),
        ("plugins/b.py", b"# -----BEGIN OPENSSH PRIVATE KEY-----"),
        (".dvc/config", b"['remote \"s3\"']\n    secret_access_key = abc\n"),
    ],
)
def test_a_new_file_that_is_no_text_or_holds_a_key_is_refused_whatever_it_is_called(repository, path, content):
    (repository / path).parent.mkdir(parents=True)
    (repository / path).write_bytes(content)

    assert path not in files(repository, take_snapshot(repository).snapshot)
    git(repository, "add", path)
    taken = take_snapshot(repository)
    assert path not in files(repository, taken.snapshot)
    assert taken.refused == (path,)


def test_links_and_other_repositories_are_not_followed(repository, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    write(outside, "key.py", "data/raw/x.dvc")
    (repository / "plugins").mkdir()
    (repository / "plugins" / "linked.py").symlink_to(outside / "key.py")
    (repository / "data").symlink_to(outside / "data")
    write(repository, "src/inner/new.py")
    git(repository / "src" / "inner", "init", "-q")

    assert files(repository, take_snapshot(repository).snapshot) == {".gitignore", "code.py"}


def test_a_folder_that_became_a_link_or_a_file_and_a_conflict_are_recorded_as_they_are(repository, tmp_path_factory):
    write(repository, "one/a.py", "two/b.py")
    commit(repository)
    for folder in ("one", "two"):
        shutil.rmtree(repository / folder)
    (repository / "one").symlink_to(tmp_path_factory.mktemp("outside"))
    git(repository, "checkout", "-q", "-b", "side", "HEAD~1")
    write(repository, "code.py", content="side")
    git(repository, "commit", "-q", "-a", "-m", "side")
    write(repository, "code.py", content="main")
    git(repository, "commit", "-q", "-a", "-m", "main")
    git(repository, "checkout", "-q", "-B", "other", "HEAD~1")
    write(repository, "code.py", content="other")
    git(repository, "commit", "-q", "-a", "-m", "other")
    with pytest.raises(subprocess.CalledProcessError):
        git(repository, "merge", "-q", "side")

    taken = take_snapshot(repository)

    assert "<<<<<<<" in git(repository, "show", f"{taken.snapshot}:code.py")


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


def test_git_variables_of_a_hook_lead_nowhere_else(repository, monkeypatch):
    write(repository, "params.yaml")
    for name in ("GIT_INDEX_FILE", "GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.setenv(name, "/nowhere")

    assert "params.yaml" in files(repository, take_snapshot(repository).snapshot)


def test_nothing_in_the_users_settings_signs_edits_pages_asks_or_runs(repository, tmp_path, monkeypatch):
    waits = tmp_path / "waits"
    waits.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\nsleep 600\n")
    waits.chmod(0o755)
    hooks = repository / ".git" / "hooks"
    for hook in ("reference-transaction", "post-checkout", "pre-push", "post-index-change", "pre-commit"):
        (hooks / hook).unlink(missing_ok=True)
        shutil.copy(waits, hooks / hook)
    settings = {
        "commit.gpgSign": "true", "tag.gpgSign": "true", "push.gpgSign": "true", "gpg.program": str(waits),
        "core.editor": str(waits), "core.pager": str(waits), "pager.show": "true", "core.askPass": str(waits),
        "core.fsmonitor": str(waits), "log.showSignature": "true", "tag.forceSignAnnotated": "true",
    }  # fmt: skip
    for key, value in settings.items():
        git(repository, "config", key, value)
    for name in ("GIT_EDITOR", "VISUAL", "EDITOR", "GIT_PAGER", "PAGER", "GIT_ASKPASS", "SSH_ASKPASS"):
        monkeypatch.setenv(name, str(waits))
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    (repository / "code.py").write_text("two")

    taken = take_snapshot(repository)
    run_git(repository, "worktree", "add", "--detach", str(tmp_path / "tree"), taken.snapshot)

    assert (tmp_path / "tree" / "code.py").read_text() == "two"
    assert not (tmp_path / "was-run").exists()


def test_a_git_that_does_not_end_is_stopped_with_a_clear_message(repository, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text("#!/bin/sh\nsleep 600\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr("isthmus.registry.lineage.git.SECONDS", 0.3)

    with pytest.raises(
        StoreError, match=r"'git rev-parse --show-toplevel' in .* took longer than 0 s and was stopped: "
    ):
        take_snapshot(repository)


def test_a_remote_that_does_not_answer_is_given_up_with_all_that_was_started(repository, tmp_path, monkeypatch):
    waits = tmp_path / "waits"
    waits.write_text("#!/bin/sh\nsleep 600\n")
    waits.chmod(0o755)
    monkeypatch.setattr("isthmus.registry.lineage.git.SECONDS_AWAY", 1.0)
    git(repository, "remote", "add", "far", "ssh://nowhere.invalid/x.git")
    git(repository, "config", "core.sshCommand", str(waits))
    before = descendants(os.getpid())

    with pytest.raises(
        StoreError, match=r"'git .*push --quiet far .*' in .* took longer than 1 s and was stopped: a remote"
    ):
        push(repository, "far", "refs/heads/main")

    assert descendants(os.getpid()) == before


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

    with pytest.raises(StoreError, match=r"'git diff-files -z --no-renames' failed in"):
        take_snapshot(repository)

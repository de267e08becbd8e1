"""What a champion was made from is kept: with a real bare git remote and a real local DVC remote."""

import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest

from isthmus.core.errors import ConfigError, StoreError
from isthmus.registry.promotion import retention
from isthmus.registry.promotion.promotion import promote
from isthmus.registry.promotion.retention import protect
from isthmus.registry.store.stores import open_store
from tests.registry.project_files import dvc, git
from tests.registry.versions import MODEL, add_version, aliases, decide

TAG = "isthmus/isthmus-demo/v1"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built_small(bare_project, fresh_store, tmp_path_factory):
    """A project with a scenario of one DVC stage over a folder that DVC tracks, and one version with a yes."""
    project = Path(shutil.copytree(bare_project, tmp_path_factory.mktemp("small") / "project"))
    shutil.copy(fresh_store, project / "mlflow.db")
    dvc(project, "init", "-q")
    (project / "raw").mkdir()
    (project / "raw" / "image.png").write_text("an image")
    dvc(project, "add", "-q", "raw")
    # not the image's own content: of two paths with one content DVC names either, by the order of a set
    stage = "{cmd: wc -c raw/image.png > report.html, deps: [raw], outs: [report.html]}"
    (project / "dvc.yaml").write_text(f"stages: {{report: {{foreach: [demo], do: {stage}}}}}\n")
    dvc(project, "repro", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        decide(project, add_version(project), None)
    return project


@pytest.fixture
def small(built_small, tmp_path):
    return Path(shutil.copytree(built_small, tmp_path / "project", symlinks=True))


def test_without_remotes_the_commit_gets_a_tag_and_local_only_is_said(small, capsys):
    promote(small, "demo")

    assert git(small, "rev-parse", TAG) == git(small, "rev-parse", "HEAD")
    said = capsys.readouterr().err
    assert "isthmus-demo version 1: data: local only (no DVC remote)" in said
    assert f"commit: tag {TAG}, local only (lineage.git_remote in params.yaml names no git remote)" in said


def name_remote(project, name):
    params = project / "params.yaml"
    params.write_text(params.read_text() + f"lineage: {{git_remote: {name}}}\n")


def test_the_tag_is_pushed_to_the_remote_that_is_named_and_doing_it_again_changes_nothing(small, tmp_path, capsys):
    git(tmp_path, "init", "-q", "--bare", "origin.git")
    git(small, "remote", "add", "other", str(tmp_path / "nowhere.git"))
    git(small, "remote", "add", "origin", str(tmp_path / "origin.git"))
    git(small, "config", "push.followTags", "true")
    git(small, "tag", "-a", "-m", "mine", "mine")
    name_remote(small, "origin")

    promote(small, "demo")
    protect(small, open_store(small), "demo", MODEL, "1")

    assert git(tmp_path / "origin.git", "rev-parse", TAG) == git(small, "rev-parse", "HEAD")
    assert git(tmp_path / "origin.git", "for-each-ref", "--format=%(refname)") == f"refs/tags/{TAG}"
    assert capsys.readouterr().err.count(f"tag {TAG}, pushed to 'origin'") == 2


def test_no_remote_is_spoken_to_that_the_settings_do_not_name(small, tmp_path):
    git(small, "remote", "add", "origin", str(tmp_path / "nowhere.git"))

    assert promote(small, "demo").champion == "1"


def test_a_remote_that_is_named_and_not_there_is_told_before_anything_is_moved(small):
    git(small, "remote", "add", "origin", "nowhere.git")
    name_remote(small, "orign")

    with pytest.raises(ConfigError, match=r"no git remote 'orign'. Did you mean 'origin'\? There are: origin. Add it"):
        promote(small, "demo")
    assert aliases(small) == {}


def test_a_git_remote_that_is_gone_stops_the_promotion_before_anything_is_moved(small, tmp_path):
    git(small, "remote", "add", "origin", str(tmp_path / "nowhere.git"))
    name_remote(small, "origin")

    with pytest.raises(StoreError, match=rf"nothing was promoted: the tag could not .*Run 'git push origin {TAG}'"):
        promote(small, "demo")
    assert aliases(small) == {}


def test_data_that_is_not_in_the_dvc_remote_is_refused_with_the_command_that_puts_it_there(small, tmp_path, capsys):
    dvc(small, "remote", "add", "-q", "-d", "vault", "../vault")  # relative to the project, and younger than the commit
    refused = r"2 files of its snapshot \w+ are not in the DVC remote 'vault' \(.*\). Run '(dvc push [^']*)', then"

    with pytest.raises(StoreError, match=refused) as raised:
        promote(small, "demo")
    assert aliases(small) == {}
    assert git(small, "tag") == ""
    command = str(raised.value).partition("Run 'dvc ")[2].partition("'")[0].split()
    dvc(small, *command)
    assert promote(small, "demo").champion == "1"
    assert "data: in the DVC remote 'vault'" in capsys.readouterr().err
    assert git(small, "worktree", "list").count("\n") == 0


@pytest.mark.soak
def test_data_that_is_nowhere_any_more_is_named_as_lost(small):
    dvc(small, "remote", "add", "-q", "-d", "vault", "../vault")
    shutil.rmtree(small / ".dvc" / "cache")

    with pytest.raises(StoreError, match="not in this machine's cache either: push from the machine that made them"):
        protect(small, open_store(small), "demo", MODEL, "1")


@pytest.mark.soak
def test_the_data_of_the_snapshot_counts_not_what_lies_in_the_folder_now(small):
    dvc(small, "remote", "add", "-q", "-d", "vault", "../vault")
    dvc(small, "push", "-q")
    (small / "raw" / "image.png").write_text("another image")
    dvc(small, "add", "-q", "raw")
    dvc(small, "repro", "-q")

    protect(small, open_store(small), "demo", MODEL, "1")


def test_remotes_without_a_default_are_refused(small):
    dvc(small, "remote", "add", "-q", "vault", "../vault")

    with pytest.raises(
        StoreError, match=r"DVC has remotes \(vault\) and no default one. Run 'dvc remote default vault'"
    ):
        protect(small, open_store(small), "demo", MODEL, "1")


def test_a_commit_that_is_not_here_and_a_tag_that_is_taken_are_named(small):
    store = open_store(small)
    git(small, "tag", "-a", "-m", "as a signature needs one", TAG)
    protect(small, store, "demo", MODEL, "1")
    git(small, "commit", "-q", "--allow-empty", "-m", "later")
    git(small, "tag", "--force", TAG)
    with pytest.raises(StoreError, match=rf"the tag {TAG} is on commit \w+, the version is of \w+: .*git tag --delete"):
        protect(small, store, "demo", MODEL, "1")
    store._client.set_model_version_tag(MODEL, "1", "isthmus.snapshot", "0" * 40)
    with pytest.raises(StoreError, match="its commit 000000000000 is not in this repository. Fetch it"):
        protect(small, store, "demo", MODEL, "1")
    store._client.delete_model_version_tag(MODEL, "1", "isthmus.snapshot")
    with pytest.raises(StoreError, match="no snapshot is recorded, so it cannot be traced. Run 'isthmus publish demo'"):
        protect(small, store, "demo", MODEL, "1")


@pytest.mark.soak
def test_raw_images_are_asked_for_by_their_pointer_though_it_is_younger_than_the_snapshot(
    built, fresh_store, tmp_path, capsys
):
    project = Path(shutil.copytree(built, tmp_path / "project", symlinks=True))
    shutil.copy(fresh_store, project / "mlflow.db")
    decide(project, add_version(project), None)
    dvc(project, "remote", "add", "-q", "-d", "vault", "../vault")
    dvc(project, "push", "-q")

    with pytest.raises(StoreError, match="its raw images data/raw/demo are not versioned, so .* Run 'dvc add data/raw"):
        promote(project, "demo")
    dvc(project, "add", "-q", "data/raw/demo")
    with pytest.raises(StoreError, match=r"\(data/raw/demo\). Run .* and 'dvc push data/raw/demo.dvc', then"):
        promote(project, "demo")
    dvc(project, "push", "-q", "data/raw/demo.dvc")

    assert promote(project, "demo").champion == "1"
    assert "data: in the DVC remote 'vault'" in capsys.readouterr().err


def test_a_password_of_a_remote_is_not_copied_to_where_others_can_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("project", "tree"):
        (tmp_path / folder / ".dvc").mkdir(parents=True)
    own = tmp_path / "project" / ".dvc" / "config.local"
    own.write_text('[remote "store"]\n password = secret\n')
    own.chmod(0o600)
    monkeypatch.setattr(retention, "checked_out", lambda *_: nullcontext(tmp_path / "tree"))
    monkeypatch.setattr(retention, "run_dvc", lambda *_: "")

    with retention._checkout(tmp_path / "project", "0" * 40, "store") as tree:
        copy = tree / ".dvc" / "config.local"

    assert copy.read_text() == own.read_text()
    assert copy.stat().st_mode & 0o777 == 0o600

import shutil
from pathlib import Path

import pytest

from isthmus.registry.lineage.dvc_remote import raw_is_versioned
from isthmus.registry.lineage.lineage import read_lineage
from isthmus.registry.lineage.retrievable import origin
from isthmus.registry.lineage.snapshot import take_snapshot
from tests.registry.project_files import dvc, git

pytestmark = pytest.mark.slow


def test_local_only_is_said_where_no_remote_is_configured(built: Path) -> None:
    found = origin(read_lineage(built, "demo"), git(built, "rev-parse", "HEAD"))

    assert found == {what: {"place": "", "found": False, "missing": []} for what in ("data", "snapshot")}


@pytest.mark.soak
def test_data_is_missing_until_it_is_versioned_and_pushed(built: Path, tmp_path: Path) -> None:
    project = Path(shutil.copytree(built, tmp_path / "project", symlinks=True))
    dvc(project, "remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    commit = git(project, "rev-parse", "HEAD")

    before = origin(read_lineage(project, "demo"), commit)["data"]
    dvc(project, "push", "-q")
    without_raw = origin(read_lineage(project, "demo"), commit)["data"]
    dvc(project, "add", "-q", "data/raw/demo")
    raw_unpushed = origin(read_lineage(project, "demo"), commit)["data"]
    dvc(project, "push", "-q", "data/raw/demo.dvc")
    after = origin(read_lineage(project, "demo"), commit)["data"]
    (project / "data/labels/demo.csv").write_text("labels that a person gave")
    dvc(project, "add", "-q", "data/labels/demo.csv")
    dvc(project, "commit", "-q", "-f", "labels@demo")
    labels_unpushed = origin(read_lineage(project, "demo"), commit)["data"]
    shutil.rmtree(tmp_path / "store")
    gone = origin(read_lineage(project, "demo"), commit)["data"]

    assert labels_unpushed["missing"] == ["data/labels/demo.csv"]
    assert before["place"] == "store"
    assert "out/demo/manifest.parquet" in before["missing"]
    assert without_raw["missing"] == ["data/raw/demo (not versioned: 'dvc add data/raw/demo')"]
    assert raw_unpushed["missing"] == ["data/raw/demo"]
    assert raw_is_versioned(project, "data/raw/demo")
    assert after == {"place": "store", "found": True, "missing": []}
    assert not gone["found"]


def test_a_snapshot_is_missing_until_it_is_in_the_remote_that_is_named_and_one_that_is_gone_is_told(
    built: Path, tmp_path: Path
) -> None:
    project = Path(shutil.copytree(built, tmp_path / "project", symlinks=True))
    lineage = read_lineage(project, "demo")
    git(tmp_path, "init", "-q", "--bare", str(tmp_path / "git"))
    git(project, "remote", "add", "mirror", str(tmp_path / "git"))
    assert origin(lineage, "0" * 40)["snapshot"]["place"] == ""
    params = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(params.replace("git_remote: null", "git_remote: mirror"))
    taken = take_snapshot(project)
    git(project, "push", "-q", "mirror", "HEAD:refs/heads/main")

    before = origin(lineage, taken.snapshot)["snapshot"]
    committed = origin(lineage, taken.commit)["snapshot"]
    git(project, "push", "-q", "mirror", "refs/isthmus/*:refs/isthmus/*")
    after = origin(lineage, taken.snapshot)["snapshot"]
    shutil.rmtree(tmp_path / "git")
    gone = origin(lineage, taken.snapshot)["snapshot"]

    assert before == {"place": "mirror", "found": False, "missing": [f"commit {taken.snapshot[:12]}"]}
    assert committed["found"]
    assert after == {"place": "mirror", "found": True, "missing": []}
    assert not gone["found"]
    assert "the remote does not answer" in gone["missing"][0]

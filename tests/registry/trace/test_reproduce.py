import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from isthmus.core.errors import StoreError
from isthmus.core.files import read_json, write_json
from isthmus.core.process.supervisor import descendants
from isthmus.registry.lineage.worktrees import FOLDER, checked_out
from isthmus.registry.publish.publish import publish
from isthmus.registry.trace.reproduce import Comparison, Reproduction, _bring_data, _have_commit, compare, reproduce
from tests.e2e.test_whole_line import project as small_project
from tests.e2e.test_whole_line import repro
from tests.pipelines.tiny_project import default_signals, wait_until
from tests.registry.project_files import ROOT, dvc, git
from tests.registry.reproducible import slow_project
from tests.registry.versions import MODEL


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_model_of_two_commits_ago_and_one_of_an_uncommitted_tree_come_out_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = _versioned(tmp_path / "project")
    monkeypatch.setenv("PYTHONPATH", str(project / "src"))  # the project's stages run the project's own code
    _options(project, zscore={}, source_only={})
    repro(project)
    _commit(project, "one")
    first = publish(project, "demo")
    for resamples in (150, 200):
        params = yaml.safe_load((project / "params.yaml").read_text())
        params["evaluate"]["bootstrap"] = resamples
        (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        _commit(project, f"{resamples} resamples")
    # the third tree is changed in its code and never committed
    source = project / "src/isthmus/evaluation/scoring/predict.py"
    source.write_text(source.read_text().replace('"candidate_count": len', '"candidate_number": len'))
    repro(project)
    second = publish(project, "demo")
    status = git(project, "status", "--porcelain")

    old, new = (reproduce(project, f"demo/{one.version}") for one in (first, second))

    assert second.snapshot != git(project, "rev-parse", "HEAD")
    for found, published in ((old, first), (new, second)):
        assert found.reproduced, found.text()
        assert found.snapshot == published.snapshot
        assert len(found.numbers) > 20
        assert found.outputs[0] == found.outputs[1] > 5, found.text()
    names = [{number.name for number in found.numbers} for found in (old, new)]
    assert ("candidate_count" in names[0], "candidate_number" in names[1]) == (True, True)
    assert "candidate_count" not in names[1]
    intervals = [{n.name: n.again for n in found.numbers}["truth.methods.zscore.accuracy.low"] for found in (old, new)]
    assert intervals[0] != intervals[1]  # 1,000 resamples then, 200 now
    assert git(project, "status", "--porcelain") == status
    assert git(project, "worktree", "list").count("\n") == 0
    assert read_json(project / f".isthmus/reproduced/{first.model_id}.json")["reproduced"] is True


@pytest.mark.slow
def test_raw_images_that_dvc_never_kept_cannot_be_had_again_and_the_worktree_is_gone(published) -> None:
    project, found = published

    with pytest.raises(StoreError, match=r"data/raw/demo: DVC hashed the raw images .*'dvc add data/raw/demo'"):
        reproduce(project, f"{found.model}@candidate")

    assert git(project, "worktree", "list").count("\n") == 0
    assert not list((project / ".isthmus/worktrees").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, *(pytest.param(number, marks=pytest.mark.soak) for number in (signal.SIGINT, signal.SIGKILL))],
)
def test_whoever_ends_it_no_process_of_it_lives_on_and_its_worktree_goes(tmp_path: Path, number: int) -> None:
    project = slow_project(tmp_path / "project", seconds=600)
    command = [sys.executable, "-m", "isthmus.cli", "reproduce", "demo/1"]
    child = subprocess.Popen(command, cwd=project, stderr=subprocess.DEVNULL, preexec_fn=default_signals)
    wait_until(lambda: list((project / FOLDER).glob("*/started_[ab]")), "a stage that runs", 120)
    below = descendants(child.pid)
    assert len(below) >= 3  # what holds the lifeline, dvc, its stage

    child.send_signal(number)
    child.wait()

    wait_until(lambda: not [pid for pid in below if (Path("/proc") / str(pid)).exists()], "the end of all")
    if number == signal.SIGKILL:
        with checked_out(project, "HEAD", "next"):
            pass
    assert not list((project / FOLDER).iterdir())
    assert git(project, "worktree", "list").count("\n") == 0


@pytest.mark.slow
def test_data_comes_from_the_remotes_of_now_though_the_snapshot_knows_none(tmp_path: Path) -> None:
    for name in ("project", "snapshot"):
        (tmp_path / name).mkdir()
        dvc(tmp_path / name, "init", "-q", "--no-scm")
    dvc(tmp_path / "project", "remote", "add", "-q", "-d", "store", "s3://team/dvc")
    made = {"simulate@demo": {"cmd": "", "outs": [{"path": "data/raw/demo", "md5": "0"}]}}

    _bring_data(
        tmp_path / "project", tmp_path / "snapshot",
        {"snapshot": "0" * 40, "scenario": "demo", "lock_entries": made, "raw": {"path": "data/raw/demo"}},
    )  # fmt: skip

    assert "s3://team/dvc" in (tmp_path / "snapshot/.dvc/config").read_text()
    assert str(tmp_path / "project/.dvc/cache") in (tmp_path / "snapshot/.dvc/config.local").read_text()


def test_a_snapshot_that_is_nowhere_is_named(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")

    with pytest.raises(StoreError, match=r"commit 0{40}: not in this repository and in none of its remotes"):
        _have_commit(tmp_path, "0" * 40)


def test_a_snapshot_is_fetched_from_a_remote(tmp_path: Path) -> None:
    for name in ("there", "here"):
        (tmp_path / name).mkdir()
        git(tmp_path / name, "init", "-q")
        git(tmp_path / name, "commit", "-q", "--allow-empty", "-m", name)
    commit = git(tmp_path / "there", "rev-parse", "HEAD")
    git(tmp_path / "there", "update-ref", f"refs/isthmus/{commit}", commit)
    git(tmp_path / "here", "remote", "add", "origin", str(tmp_path / "there"))

    _have_commit(tmp_path / "here", commit)

    assert git(tmp_path / "here", "cat-file", "-t", commit) == "commit"


@pytest.mark.parametrize(
    ("recorded", "again", "same"),
    [(0.5, 0.504, True), (0.5, 0.506, False), (1000, 1004, True), (1000, 1006, False), (0.5, None, False)],
)
def test_a_number_is_the_same_within_the_tolerance_and_a_missing_one_differs(recorded, again, same) -> None:
    assert compare("accuracy", recorded, again, 0.005).same is same


def test_the_table_names_what_differs_and_other_raw_data_is_no_reproduction() -> None:
    rows = [Comparison("accuracy", 0.5, 0.9, False), Comparison("count", 3, 3, True)]
    found = Reproduction("isthmus-demo", "2", "c", ("a", "a"), (9, 8), rows, ["note: other packages"])
    moved = Reproduction("isthmus-demo", "2", "c", ("a", "b"), (9, 9), rows[1:], [])

    assert found.text().splitlines()[1:] == [
        "accuracy      0.5000      0.9000  DIFFERS",
        "count         3.0000      3.0000",
        "note: other packages",
        "isthmus-demo 2: NOT reproduced: 1 of 2 numbers differ; the same raw data; 8 of 9 outputs are the same bytes",
    ]
    assert not moved.reproduced
    assert "OTHER raw data" in moved.text()


def _versioned(folder: Path) -> Path:
    """Makes the small project of the whole line with code of its own, raw data versioned, and a lock of packages."""
    small_project(folder)
    (folder / "src").unlink()
    shutil.copytree(ROOT / "src" / "isthmus", folder / "src" / "isthmus", ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".gitignore", "requirements.lock"):
        shutil.copy(ROOT / name, folder / name)
    dvc(folder, "add", "-q", "data/raw/demo")
    write_json(folder / "about.json", {})
    return folder


def _options(project: Path, **methods: object) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["methods"] = methods
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def _commit(project: Path, message: str) -> None:
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", message)


def test_the_command_line_knows_the_verbs() -> None:
    for verb in ("score", "trace", "reproduce"):
        done = subprocess.run([sys.executable, "-m", "isthmus.cli", verb, "--help"], capture_output=True, text=True)
        assert done.returncode == 0


def test_results_of_another_package_than_the_installed_one_are_not_run_again(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "isthmus.lock").write_text(f"package: {{version: 0.0.9, code: {'f' * 64}}}\nfiles: {{}}\n")
    project = slow_project(folder, 0)

    with pytest.raises(
        StoreError, match=r"1: its results were made by isthmus 0.0.9 \(ffffffff\), and isthmus 0.1.0 .* is installed"
    ):
        reproduce(project, f"{MODEL}/1")

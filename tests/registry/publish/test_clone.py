"""From results to a champion and back in a plain clone, whose user has no right to push to `origin`."""

import shutil
from pathlib import Path

import pytest

from isthmus.registry.gate.decision import gate
from isthmus.registry.gate.score import score
from isthmus.registry.lineage.lineage import read_lineage
from isthmus.registry.lineage.retrievable import origin
from isthmus.registry.promotion.promotion import promote, rollback
from isthmus.registry.publish.publish import publish
from tests.registry.asked_project import name_all_rules, name_rules
from tests.registry.project_files import git, set_truth, truth

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def clone(built: Path, tmp_path: Path) -> Path:
    """Returns a clone with results, of a repository that refuses every push, and with files beside the code."""
    git(tmp_path, "clone", "-q", "--bare", str(built), "origin.git")
    hook = tmp_path / "origin.git" / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'you may not push' >&2\nexit 1\n")
    hook.chmod(0o755)
    git(tmp_path, "clone", "-q", str(tmp_path / "origin.git"), "clone")
    for folder in ("out", "data/raw", ".dvc/cache"):
        shutil.copytree(built / folder, tmp_path / "clone" / folder, dirs_exist_ok=True)
    (tmp_path / "clone" / "secrets.txt").write_text("a password")
    (tmp_path / "clone" / "incoming").mkdir()
    (tmp_path / "clone" / "incoming" / "x.dcm").write_bytes(b"\0" * 128 + b"DICM")
    return tmp_path / "clone"


def test_all_steps_work_without_a_right_to_push_and_nothing_leaves_the_clone(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = clone.parent / "origin.git"
    before = git(bare, "for-each-ref"), git(bare, "count-objects", "-v")
    name_all_rules(clone)
    snapshots = [publish(clone, "demo").snapshot]
    score(clone, "demo")
    told = gate(clone, "demo").table()
    assert promote(clone, "demo").champion == "1"
    name_rules(clone, "absolute_floor")  # none that reads what the models answer: they were asked once
    set_truth(clone, truth(0.79, 0.5))
    snapshots.append(publish(clone, "demo").snapshot)
    gate(clone, "demo")
    assert promote(clone, "demo").champion == "2"

    assert rollback(clone, "demo").champion == "1"
    said = capsys.readouterr().err
    assert "snapshot: untracked files that are not in it: 2 (incoming/ (1), secrets.txt). What the results need" in said
    assert "snapshot: local only, lineage.git_remote in params.yaml names no git remote" in told
    assert "commit: tag isthmus/isthmus-demo/v1, local only" in said
    assert (git(bare, "for-each-ref"), git(bare, "count-objects", "-v")) == before
    assert len(set(snapshots)) == 2
    for snapshot in snapshots:
        held = git(clone, "ls-tree", "-r", "--name-only", snapshot)
        assert "params.yaml" in held
        assert "secrets" not in held
        assert "incoming/" not in held


def test_a_remote_that_is_named_and_refuses_is_told_at_once_with_the_command_that_puts_it_right(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = clone / "params.yaml"
    params.write_text(params.read_text().replace("git_remote: null", "git_remote: origin"))

    found = publish(clone, "demo")

    told = f"'git push origin refs/isthmus/{found.snapshot}' before 'isthmus score'"
    said = capsys.readouterr().err
    assert "snapshot: not pushed to 'origin', which params.yaml names" in said
    assert "you may not push" in said
    assert told in said
    assert origin(read_lineage(clone, "demo"), found.snapshot)["snapshot"] == {
        "place": "origin", "found": False, "missing": [f"commit {found.snapshot[:12]}"],
    }  # fmt: skip
    (clone.parent / "origin.git" / "hooks" / "pre-receive").unlink()
    git(clone, *told.split("'")[1].split()[1:])
    assert origin(read_lineage(clone, "demo"), found.snapshot)["snapshot"]["found"]
    gate(clone, "demo")
    assert promote(clone, "demo").champion == "1"
    assert git(clone.parent / "origin.git", "rev-parse", "isthmus/isthmus-demo/v1") == found.snapshot

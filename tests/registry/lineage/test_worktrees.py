"""A commit in a folder of its own: gone afterwards, whatever ends the process that asked for it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.core.errors import StoreError
from isthmus.registry.lineage.worktrees import FOLDER, checked_out
from tests.pipelines.tiny_project import default_signals, wait_until
from tests.registry.project_files import git

HOLD = """
import sys, time
from pathlib import Path
from isthmus.registry.lineage.worktrees import checked_out
with checked_out(Path(sys.argv[1]), "HEAD", sys.argv[2]) as tree:
    print(tree, flush=True)
    time.sleep(600)
"""


def left(project: Path) -> list[str]:
    listed = git(project, "worktree", "list", "--porcelain").count("worktree ") - 1
    return [path.name for path in (project / FOLDER).glob("*")] + ["listed"] * listed


def holder(project: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(project), name]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=default_signals)
    assert child.stdout
    assert child.stdout.readline().strip() == str(project / FOLDER / name)
    return child


def end(child: subprocess.Popen[str], number: int) -> None:
    child.send_signal(number)
    child.wait()
    assert child.stdout
    child.stdout.close()


def test_the_folder_holds_the_commit_and_is_gone_afterwards(empty_project: Path) -> None:
    with pytest.raises(ZeroDivisionError), checked_out(empty_project, "HEAD", "one") as tree:
        assert (tree / "params.yaml").is_file()
        raise ZeroDivisionError

    assert left(empty_project) == []
    assert git(empty_project, "status", "--porcelain") == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_process_that_is_asked_to_stop_leaves_nothing(empty_project: Path, number: int) -> None:
    end(holder(empty_project, "one"), number)

    assert left(empty_project) == []


def test_what_a_killed_process_left_is_swept_by_the_next_and_what_a_living_one_holds_is_not(
    empty_project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    living = holder(empty_project, "living")
    end(holder(empty_project, "dead"), signal.SIGKILL)
    (entry,) = [path for path in (empty_project / ".git" / "worktrees").iterdir() if path.name == "dead"]
    (entry / "locked").write_text("initializing")  # as where git itself was killed while it made one
    assert sorted(left(empty_project)) == ["dead", "listed", "listed", "living"]

    with checked_out(empty_project, "HEAD", "dead"):
        assert sorted(left(empty_project)) == ["dead", "listed", "listed", "living"]

    assert left(empty_project) == ["living", "listed"]
    assert f"removed {empty_project / FOLDER / 'dead'}, which a killed process left" in capfd.readouterr().err
    with (
        pytest.raises(StoreError, match="another process has held the lock for the worktree .*living for 1 s"),
        checked_out(empty_project, "HEAD", "living"),
    ):
        pass
    end(living, signal.SIGTERM)
    wait_until(lambda: not left(empty_project), "the end of the last")

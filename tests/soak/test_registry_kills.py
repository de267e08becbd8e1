"""Kills at random moments while a store is made, results are published, scored, promoted, reproduced: nothing is lost.

ISTHMUS_KILLS of each kind (10), ISTHMUS_KILL_SEED (0). The table goes into docs/reliability.md: what was killed how
often, and how many times the same command afterwards ended in the right state with nothing left behind.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from isthmus.core.errors import IsthmusError
from isthmus.core.files import hash_files, read_json
from isthmus.core.process.supervisor import descendants
from isthmus.registry.gate.decision import gate
from isthmus.registry.lineage.worktrees import FOLDER, checked_out
from isthmus.registry.promotion.promotion import promote
from isthmus.registry.store.stores import open_store
from tests.pipelines.tiny_project import default_signals, wait_until
from tests.registry.asked_project import fill, name_all_rules
from tests.registry.project_files import build_project, commit, git
from tests.registry.publish.test_publish import PARTS, _counts
from tests.registry.reproducible import slow_project
from tests.registry.versions import add_version, aliases, decide, record
from tests.soak.reliability import rows_of, write_section

KILLS = int(os.environ.get("ISTHMUS_KILLS", "10"))
SEED = int(os.environ.get("ISTHMUS_KILL_SEED", "0"))
RANDOM = random.Random(SEED)
SIGNALS = [signal.SIGKILL, signal.SIGINT, signal.SIGTERM]
MAKE = """
import sys
from pathlib import Path
from isthmus.registry.store.stores import open_store
open_store(Path(sys.argv[1]), make=True)
"""
TITLE = "Kills of the registry's verbs"
ROWS: dict[str, str] = {}  # campaign -> its row
HOW = f"""Each verb is started in a fresh project and gets a signal at a random moment of its usual time (seed {SEED}).
A kill is right afterwards when all child processes ended by themselves, the same command then succeeds, and what it
leaves is what an undisturbed run leaves: no run, version or record twice, no partial file, no worktree."""

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]


@pytest.fixture(autouse=True)
def _no_store_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "ISTHMUS_PROMOTION_DB"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    head = ["| killed | kills | before its end | SIGKILL, SIGINT, SIGTERM | right afterwards |"]
    rows = (rows_of(TITLE) | ROWS).values()
    table = "\n".join([*head, "| --- | ---: | ---: | ---: | ---: |", *rows])
    print(f"\n{table}")
    write_section(TITLE, f"{HOW}\n\n{table}")


def campaign(what: str, command: list[str], fresh: Callable[[int], Path], right: Callable[[Path], bool]) -> None:
    """Starts a command in a fresh folder, kills it at a random moment of its usual time, looks at what came of it."""
    first, start = fresh(0), time.monotonic()
    subprocess.run([*command, str(first)], cwd=first, check=True, capture_output=True)
    usual = time.monotonic() - start
    assert right(first)
    ended, signals, wrong = 0, Counter[int](), list[str]()
    for number in range(1, KILLS + 1):
        folder = fresh(number)
        child = subprocess.Popen(
            [*command, str(folder)], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            preexec_fn=default_signals,
        )  # fmt: skip

        time.sleep(RANDOM.uniform(0.05, 1.0) * usual)
        chosen = SIGNALS[number % len(SIGNALS)]
        below = descendants(child.pid)
        ended += child.poll() is not None
        child.send_signal(chosen)
        child.wait()
        signals[chosen] += 1
        wait_until(lambda below=below: not [p for p in below if (Path("/proc") / str(p)).exists()], "all its children")
        try:
            fault = "" if right(folder) else "the state afterwards is not right"
        except (AssertionError, IsthmusError, subprocess.CalledProcessError) as error:
            fault = f"{error} {getattr(error, 'stderr', b'')!r}"
        if fault:
            wrong.append(f"kill {number}, {signal.Signals(chosen).name}: {fault}")
        shutil.rmtree(folder)
    by = ", ".join(str(signals[number]) for number in SIGNALS)
    ROWS[what] = f"| {what} | {KILLS} | {KILLS - ended} | {by} | {KILLS - len(wrong)} |"
    assert wrong == []


def test_making_a_store(tmp_path: Path) -> None:
    def fresh(number: int) -> Path:
        (tmp_path / str(number)).mkdir()
        return tmp_path / str(number)

    def right(folder: Path) -> bool:
        subprocess.run([sys.executable, "-c", MAKE, str(folder)], check=True, capture_output=True)
        return sorted(path.name for path in folder.iterdir()) == ["mlflow.db", "mlflow.tables-lock.db"]

    campaign("making a store", [sys.executable, "-c", MAKE], fresh, right)


def test_a_store_that_mlflow_makes_in_place(tmp_path: Path) -> None:
    """What a kill of MLflow's own server leaves, or of Isthmus before it made its store beside: it is mended."""
    script = "from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore; import sys\n"
    script += "print('ready', flush=True)\nSqlAlchemyStore(f'sqlite:///{sys.argv[1]}/mlflow.db', sys.argv[1])"

    def fresh(number: int) -> Path:
        (tmp_path / str(number)).mkdir()
        return tmp_path / str(number)

    def right(folder: Path) -> bool:
        subprocess.run([sys.executable, "-c", MAKE, str(folder)], check=True, capture_output=True)
        return open_store(folder).versions() == []

    campaign("MLflow making a store in place", [sys.executable, "-c", script], fresh, right)


def test_publishing_into_a_fresh_store(tmp_path: Path) -> None:
    command, built = verb("publish", "demo"), fill(build_project(tmp_path / "built"))

    def fresh(number: int) -> Path:
        return Path(shutil.copytree(built, tmp_path / str(number), symlinks=True))

    def right(folder: Path) -> bool:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        left = [path for path in folder.rglob("*partial*") if ".venv" not in path.parts]
        return _counts(folder) == (len(PARTS), 1, 1) and not left and not list(folder.glob("*broken*"))

    campaign("publish", command, fresh, right)


def test_scoring(tmp_path: Path) -> None:
    command, built = verb("score", "demo"), fill(build_project(tmp_path / "built"))
    name_all_rules(built)
    subprocess.run(verb("publish", "demo"), cwd=built, check=True, capture_output=True)
    answers: set[str] = set()

    def fresh(number: int) -> Path:
        return Path(shutil.copytree(built, tmp_path / str(number), symlinks=True))

    def right(folder: Path) -> bool:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        (evidence,) = (folder / ".isthmus" / "evidence").glob("m-*")
        answers.add(hash_files([evidence / "candidate.parquet", evidence / "evaluation.parquet"]))
        asked = (folder / ".isthmus" / "acceptance" / "demo.jsonl").read_text().splitlines()
        left = list((folder / ".isthmus").rglob("*partial*"))
        named = set(read_json(evidence / "evidence.json")["files"])
        return (
            len(answers) == len(asked) == 1 and not left and len(named) == 3 and gate(folder, "demo").verdict == "yes"
        )

    campaign("score", command, fresh, right)


def test_promoting(tmp_path: Path) -> None:
    command, project = verb("promote", "demo"), tmp_path / "project"
    project.mkdir()
    (project / ".gitignore").write_text("*.db*\nmlartifacts\n.isthmus\n")
    (project / "params.yaml").write_text("gates: {absolute_floor: {}}\n")
    (project / "dvc.yaml").write_text("stages: {}\n")
    git(project, "init", "-q")
    commit(project)
    open_store(project, make=True)
    decide(project, add_version(project), None)
    promote(project, "demo")
    decide(project, add_version(project), "1")

    def fresh(number: int) -> Path:
        return Path(shutil.copytree(project, tmp_path / str(number), symlinks=True))

    def right(folder: Path) -> bool:
        assert aliases(folder)["champion"] in ("1", "2")
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        outcomes = {row[4] for row in record(folder)}
        return aliases(folder) == {"champion": "2", "previous": "1"} and outcomes <= {"done", "finished later"}

    campaign("promote", command, fresh, right)


def test_reproducing(tmp_path: Path) -> None:
    project = slow_project(tmp_path / "project", seconds=3)

    def fresh(number: int) -> Path:
        return Path(shutil.copytree(project, tmp_path / str(number), symlinks=True))

    def right(folder: Path) -> bool:
        with checked_out(folder, "HEAD", "next"):
            pass  # sweeps what a SIGKILL left; any other end leaves nothing
        return not list((folder / FOLDER).iterdir()) and git(folder, "worktree", "list").count("\n") == 0

    # the made-up version has no numbers to compare: it runs to the end of its stages and then fails
    campaign("reproduce", verb("reproduce", "demo/1", may_fail=True), fresh, right)


def verb(*words: str, may_fail: bool = False) -> list[str]:
    """Returns a command that runs a verb in the working folder, whatever argument follows."""
    run = f"import sys\nfrom isthmus.cli import main\nsys.argv[1:] = {list(words)!r}\n"
    tried = "try:\n    main()\nexcept BaseException:\n    sys.exit(0)"
    return [sys.executable, "-c", run + (tried if may_fail else "main()")]

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipelines.runner import Outcome, child_environment, read_verdict, run_command, run_stage
from tests.pipelines.tiny_project import REPOSITORY, locks_in, processes_in, runs, wait_until, write_project

# what is in the command line of each process of a run
MARKS = {"runner": "run_stage", "supervisor": "supervisor.py", "dvc": "dvc_process.py", "stage": "stage.py a"}


def silent(line: str) -> None:
    pass


def start_runner(project: Path, address: str) -> subprocess.Popen[bytes]:
    # A shell that starts the tests in the background has them ignore SIGINT, and children inherit that.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        f"from pathlib import Path; from pipelines.runner import run_stage; run_stage(Path.cwd(), {address!r}, print)"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen([sys.executable, "-c", code], cwd=project, env=environment, stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_a_stage_runs_once_and_then_is_cached(tmp_path: Path) -> None:
    project = write_project(tmp_path)

    first, second = run_stage(project, "first", silent), run_stage(project, "first", silent)

    assert (first.verdict, second.verdict) == ("done", "cached")
    assert runs(project) == ["first"]
    assert first.seconds > 0


def test_output_comes_line_by_line_while_the_stage_runs(tmp_path: Path) -> None:
    seen: list[tuple[str, bool]] = []
    code = "import pathlib, time; print('one', flush=True); time.sleep(1); pathlib.Path('end').touch(); print('two')"

    run_command(tmp_path, [sys.executable, "-c", code], lambda line: seen.append((line, (tmp_path / "end").exists())))

    assert seen == [("one", False), ("two", True)]


def test_a_crashed_stage_shows_its_own_last_lines(tmp_path: Path) -> None:
    project = write_project(tmp_path)
    (project / "stage.py").write_text("print('so far so good'); raise RuntimeError('no light')")

    outcome = run_stage(project, "first", silent)

    assert outcome.verdict == "failed"
    assert outcome.message.startswith("first: ended with status 1\n  the last lines of its output:\n    so far so good")
    assert outcome.message.endswith("RuntimeError: no light")


def test_a_mistake_of_the_user_is_shown_in_the_stages_own_words(tmp_path: Path) -> None:
    project = write_project(tmp_path)
    lines = "error: params.yaml: train.epochs: must be 1 or more\\nparams.yaml: seed: missing"
    (project / "stage.py").write_text(f"print('{lines}'); raise SystemExit(2)")

    outcome = run_stage(project, "first", silent)

    assert outcome.verdict == "mistake"
    assert outcome.message == "params.yaml: train.epochs: must be 1 or more\nparams.yaml: seed: missing"


def test_an_unknown_stage_fails_with_dvcs_words(tmp_path: Path) -> None:
    outcome = run_stage(write_project(tmp_path), "thirst", silent)

    assert outcome.verdict == "failed"
    assert "thirst: Stage 'thirst' not found" in outcome.message


@pytest.mark.slow
def test_a_stage_over_its_time_is_stopped_with_all_its_processes(tmp_path: Path) -> None:
    project = write_project(tmp_path, seconds=600)
    run_stage(project, "first", silent)

    outcome = run_stage(project, "train@tiny-a", silent, timeout=4)

    assert outcome.verdict == "timeout"
    assert outcome.message == "train@tiny-a: stopped after 4 s (--timeout); no partial files are left"
    assert processes_in(project) == []
    assert not locks_in(project)


@pytest.mark.slow
def test_two_stages_at_once_both_come_right(tmp_path: Path) -> None:
    project = write_project(tmp_path, seconds=1)
    run_stage(project, "first", silent)
    outcomes: list[Outcome] = []
    threads = [
        threading.Thread(target=lambda a=address: outcomes.append(run_stage(project, a, silent)))
        for address in ("train@tiny-a", "train@tiny-b")
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [outcome.verdict for outcome in outcomes] == ["done", "done"]
    assert run_stage(project, "report@tiny", silent).verdict == "done"
    assert (project / "tiny.md").read_text() == "1a1b"


@pytest.mark.slow
def test_a_stage_that_another_runner_is_at_work_on_is_busy_and_not_run_twice(tmp_path: Path) -> None:
    project = write_project(tmp_path, seconds=6)
    run_stage(project, "first", silent)
    other = start_runner(project, "train@tiny-a")
    wait_until(lambda: (project / "started_a").exists(), "the other runner's stage")

    outcome = run_stage(project, "train@tiny-a", silent)

    assert outcome.verdict == "busy"
    assert "is busy, it is being blocked by" in outcome.message
    assert other.wait(30) == 0
    assert run_stage(project, "train@tiny-a", silent).verdict == "cached"
    assert runs(project) == ["first", "a"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "number"),
    [
        *((victim, signal.SIGKILL) for victim in MARKS),
        # in `make soak`, with the campaign of kills
        *(pytest.param(victim, signal.SIGTERM, marks=pytest.mark.soak) for victim in MARKS),
        *(  # dvc ignores it while a stage runs
            pytest.param(victim, signal.SIGINT, marks=pytest.mark.soak) for victim in ("runner", "supervisor", "stage")
        ),
    ],
)
def test_whoever_is_killed_nothing_lives_on_and_the_next_run_comes_right(
    tmp_path: Path, victim: str, number: signal.Signals
) -> None:
    project = write_project(tmp_path, seconds=600)
    run_stage(project, "first", silent)
    runner = start_runner(project, "train@tiny-a")
    wait_until(lambda: (project / "started_a").exists(), "the stage")
    # The supervisor's command line holds dvc's too, and the watchdog's is the supervisor's: the first is the parent.
    # A shell between dvc and the stage holds the stage's, and would wait out an interrupt: the last is the stage.
    candidates = [
        line
        for line in sorted(processes_in(project), key=lambda line: int(line.split()[0]))
        if MARKS[victim] in line and (victim == "supervisor" or "supervisor.py" not in line)
    ]

    chosen = candidates[-1 if victim == "stage" else 0]

    os.kill(int(chosen.split()[0]), number)

    wait_until(lambda: runner.poll() is not None, "the runner to end", 20)
    wait_until(lambda: processes_in(project) == [], f"nothing to be left of {chosen}", 10)
    (project / "go").touch()
    assert run_stage(project, "train@tiny-a", silent).verdict == "done"
    assert not locks_in(project)
    assert (project / "a.txt").read_text() == "1a"


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("ERROR: 'out/a' is busy, it is being blocked by:\n  (PID 5): dvc repro", "busy"),
        ("ERROR: Unable to acquire lock. Most likely another DVC process is running", "busy"),
        ("ERROR: unexpected error - database is locked", "transient"),
        ("training\nERROR: failed to reproduce 'a': failed to run: x, exited with 1", "failed"),
        ("error: no\nERROR: failed to reproduce 'a': failed to run: x, exited with 1", "failed"),
        ("error: no\nERROR: failed to reproduce 'a': failed to run: x, exited with 2", "mistake"),
        ("error: no\nTraceback (most recent call last):\nERROR: failed to run: x, exited with 2", "failed"),
        ("training\nERROR: failed to reproduce 'a': failed to run: x, exited with 2", "failed"),
        ("database is locked\nERROR: failed to reproduce 'a': failed to run: x, exited with 1", "failed"),
    ],
)
def test_the_verdict_is_read_from_dvcs_words_and_not_from_the_stages(said: str, verdict: str) -> None:
    assert read_verdict("a", 255, said.split("\n"))[0] == verdict


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("epoch 1\nerror: the disk is full\nERROR: failed to run: x, exited with 1", "a: the disk is full"),
        (
            "> python -m isthmus.stages.x\nERROR: failed to run: x, exited with -9",
            "a: was killed, probably out of",
        ),
        ("ERROR: failed to reproduce 'a': failed to run: x, exited with -11", "a: ended by signal 11"),
        ("ERROR: unexpected error - [Errno 28] No space left on device: '/p/out'", "a: /p/out: the disk is full. Free"),
        ("ERROR: cannot do it\n\nHaving any troubles? Hit us up", "a: cannot do it"),
    ],
)
def test_a_failed_stage_is_told_in_one_line_without_its_command(said: str, message: str) -> None:
    told = read_verdict("a", 255, said.split("\n"))[1]

    assert told.startswith(message)
    assert "isthmus.stages" not in told and "troubles" not in told


def test_a_dvc_that_was_killed_is_named() -> None:
    message = read_verdict("a", 137, ["epoch 1"])[1]

    assert message.startswith("a: dvc ended with status 137 without output (killed, or out of memory?)")
    assert message.endswith("epoch 1")


def test_children_find_this_pythons_programs_first_and_send_no_telemetry() -> None:
    environment = child_environment()

    assert environment["PATH"].startswith(str(Path(sys.executable).parent))
    assert environment["DO_NOT_TRACK"]

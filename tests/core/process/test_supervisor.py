import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from isthmus.core.process import supervisor
from isthmus.core.process.supervisor import descendants
from tests.pipelines.tiny_project import processes_in, wait_until

SUPERVISOR = [sys.executable, "-P", supervisor.__file__]
# three generations, the youngest in a session of its own and deaf to INT and TERM
FAMILY = """\
import pathlib, subprocess, sys, time
deaf = "import signal, time; [signal.signal(s, signal.SIG_IGN) for s in (2, 15)]; time.sleep(600)"
subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path("up").write_text("")
time.sleep(600)
"""


def start_family(folder: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [*SUPERVISOR, sys.executable, "-c", FAMILY], cwd=folder, stdin=subprocess.PIPE, start_new_session=True
    )
    wait_until(lambda: (folder / "up").exists() and len(processes_in(folder)) >= 5, "the family to be up")
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    process.stdin.close()
    process.wait()


@pytest.mark.parametrize("status", [0, 3, 255])
def test_the_exit_status_of_the_program_is_passed_on(status: int) -> None:
    command = [*SUPERVISOR, sys.executable, "-c", f"raise SystemExit({status})"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)

    assert process.wait(20) == status

    end(process)


def test_a_program_ended_by_a_signal_gives_128_and_its_number() -> None:
    command = [*SUPERVISOR, sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)

    assert process.wait(20) == 128 + 9

    end(process)


def test_the_end_of_the_lifeline_ends_the_whole_family(tmp_path: Path) -> None:
    process = start_family(tmp_path)

    assert process.stdin
    process.stdin.close()

    assert process.wait(20) == 128 + signal.SIGTERM
    assert processes_in(tmp_path) == []


def test_sigterm_ends_the_whole_family(tmp_path: Path) -> None:
    process = start_family(tmp_path)

    process.terminate()

    assert process.wait(20) == 128 + signal.SIGTERM
    assert processes_in(tmp_path) == []
    end(process)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_guard_that_is_killed_or_asked_to_stop_ends_the_whole_family(tmp_path: Path, number: int) -> None:
    process = start_family(tmp_path)
    guard = min(descendants(process.pid))

    os.kill(guard, number)

    assert process.wait(20) == 128 + number
    assert processes_in(tmp_path) == []
    end(process)


def test_a_second_signal_shortens_the_time_to_clean_up(tmp_path: Path) -> None:
    process = start_family(tmp_path)

    begin = time.monotonic()
    for _ in range(3):
        process.terminate()
        time.sleep(0.3)

    assert process.wait(20) == 128 + signal.SIGTERM
    assert time.monotonic() - begin < 3
    assert processes_in(tmp_path) == []
    end(process)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_signal_that_was_ignored_from_outside_stays_ignored(tmp_path: Path, number: int) -> None:
    """By nohup, or by a shell that starts a command in the background."""
    code = f"import signal, os, sys; signal.signal({int(number)}, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    sleep = [sys.executable, "-c", "import pathlib, time; pathlib.Path('up').touch(); time.sleep(1.5)"]
    process = subprocess.Popen([sys.executable, "-c", code, *SUPERVISOR, *sleep], cwd=tmp_path, stdin=subprocess.PIPE)
    wait_until(lambda: (tmp_path / "up").exists(), "the program")

    process.send_signal(number)

    assert process.wait(20) == 0
    end(process)


def test_a_killed_program_leaves_no_child_behind(tmp_path: Path) -> None:
    process = start_family(tmp_path)
    program = next(
        line for line in processes_in(tmp_path) if "subprocess.Popen" in line and supervisor.__file__ not in line
    )

    os.kill(int(program.split()[0]), signal.SIGKILL)

    assert process.wait(20) == 128 + signal.SIGKILL
    assert processes_in(tmp_path) == []
    end(process)


def test_a_killed_supervisor_takes_the_whole_family_with_it(tmp_path: Path) -> None:
    process = start_family(tmp_path)

    process.kill()
    process.wait()

    wait_until(lambda: processes_in(tmp_path) == [], "the group to be gone", 5)
    end(process)


def test_a_killed_owner_that_holds_the_lifeline_leaves_nothing(tmp_path: Path) -> None:
    code = f"import subprocess; subprocess.Popen({[*SUPERVISOR, 'sleep', '600']!r}, stdin=subprocess.PIPE).wait()"
    owner = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    wait_until(
        lambda: any("sleep 600" in line and "python" not in line for line in processes_in(tmp_path)), "the program"
    )

    owner.kill()
    owner.wait()

    wait_until(lambda: processes_in(tmp_path) == [], "all to be gone", 10)


def test_a_python_program_may_clean_up_when_it_is_stopped(tmp_path: Path) -> None:
    code = """\
import pathlib, time
pathlib.Path("half").touch()
try:
    pathlib.Path("up").touch()
    time.sleep(600)
finally:
    pathlib.Path("half").unlink()
"""
    process = subprocess.Popen(
        [*SUPERVISOR, sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: (tmp_path / "up").exists(), "the program")

    end(process)

    assert not (tmp_path / "half").exists()


def test_descendants_are_found_over_generations() -> None:
    process = subprocess.Popen(["sh", "-c", "sh -c 'sleep 600; :'; :"], start_new_session=True)
    try:
        wait_until(lambda: len(descendants(process.pid)) == 2, "both generations", 10)
        assert set(descendants(process.pid)) < set(descendants(os.getpid()))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.1)

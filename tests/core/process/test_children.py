"""Children end with their owner: returned, stopped by time, asked to stop, killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.core.process.children import ended_in_order, run_child
from tests.pipelines.tiny_project import default_signals, processes_in, wait_until

# A child with a child of its own, as dvc has one in each stage.
FAMILY = "import subprocess, sys, time; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
OWNER = f"""
import sys
from pathlib import Path
from isthmus.core.process.children import ended_in_order, run_child
with ended_in_order():
    try:
        run_child([sys.executable, "-c", {FAMILY!r}], Path(sys.argv[1]))
    finally:
        Path(sys.argv[1], "tidied").write_text("")
"""


def test_output_status_and_input_of_a_child_come_back(tmp_path: Path) -> None:
    script = "import sys; print(sys.stdin.read()); print('wrong', file=sys.stderr); sys.exit(7)"

    for watched in (True, False):
        done = run_child([sys.executable, "-c", script], tmp_path, given="words", watched=watched)
        assert (done.status, done.out, done.err) == (7, "words\n", "wrong\n")
    killed = run_child([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], tmp_path)
    assert killed.status == 137
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        run_child(["no-such-program"], tmp_path)


def test_the_progress_of_a_child_is_shown_as_it_comes_and_its_errors_come_back(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script = "import sys; print('1/2 images'); print('wrong', file=sys.stderr)"

    done = run_child([sys.executable, "-c", script], tmp_path, progress=True)

    assert (done.out, done.err) == ("", "wrong\n")
    assert capfd.readouterr().err == "1/2 images\n"


def test_a_child_has_no_terminal_to_ask_at(tmp_path: Path) -> None:
    done = run_child([sys.executable, "-c", "open('/dev/tty')"], tmp_path)

    assert done.status == 1
    assert "/dev/tty" in done.err


def test_a_process_that_was_started_without_input_and_outputs_has_children_all_the_same(tmp_path: Path) -> None:
    script = f"""
import os
from pathlib import Path
from isthmus.core.process.children import run_child
os.closerange(0, 3)
done = run_child(["cat"], Path({str(tmp_path)!r}), given="words")
Path({str(tmp_path)!r}, "done").write_text(f"{{done.status}} {{done.out}}")
"""
    subprocess.run([sys.executable, "-c", script], check=True)

    assert (tmp_path / "done").read_text() == "0 words"


@pytest.mark.parametrize("watched", [True, False])
def test_a_child_that_takes_too_long_is_stopped_with_all_that_it_started(tmp_path: Path, watched: bool) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        run_child([sys.executable, "-c", FAMILY], tmp_path, seconds=1.0, watched=watched)

    wait_until(lambda: not processes_in(tmp_path), "the child's end")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_a_child_and_its_children_end_with_their_owner_whatever_ends_it(tmp_path: Path, number: int) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stderr=subprocess.DEVNULL, preexec_fn=default_signals
    )
    wait_until(lambda: len(processes_in(tmp_path)) == 3, "the child and its child")  # and what holds the lifeline

    owner.send_signal(number)

    status = owner.wait()
    wait_until(lambda: not processes_in(tmp_path), "the end of all")
    assert (tmp_path / "tidied").exists() == (number != signal.SIGKILL)
    assert status in {signal.SIGTERM: {143}, signal.SIGHUP: {129}}.get(number, {-number, 1, 130})


def test_what_nohup_has_switched_off_stays_off_and_handlers_are_put_back() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with ended_in_order():
        os.kill(os.getpid(), signal.SIGHUP)

    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    signal.signal(signal.SIGHUP, before)

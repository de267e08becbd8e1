import subprocess
import sys

import pytest

from isthmus.core.errors import StoreError
from isthmus.registry.store.locks import exclusive

HOLD = """
import sys, time
from pathlib import Path
from isthmus.registry.store.locks import exclusive
with exclusive(Path(sys.argv[1]), "a test"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_that_another_process_holds_is_waited_for_and_then_reported(tmp_path):
    with _holder(tmp_path) as holder:
        with (
            pytest.raises(StoreError, match=r"x\.lock: another process has held the lock for a test for 0 s"),
            exclusive(tmp_path / "x.lock", "a test", patience=0.1),
        ):
            pass
        holder.kill()


def test_a_lock_dies_with_its_killed_holder(tmp_path):
    with _holder(tmp_path) as holder:
        holder.kill()
        holder.wait()

    with exclusive(tmp_path / "x.lock", "a test", patience=5):
        pass


def test_a_lock_is_let_go_when_the_block_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "x.lock", "a test"):
        raise ZeroDivisionError

    with exclusive(tmp_path / "x.lock", "a test", patience=0.1):
        pass


def test_a_lock_that_cannot_be_made_names_its_path(tmp_path):
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(StoreError, match=r"x\.lock: the lock for a test cannot be created.*Check the folder's rights"),
        exclusive(tmp_path / "file" / "x.lock", "a test"),
    ):
        pass


def _holder(folder):
    command = [sys.executable, "-c", HOLD, str(folder / "x.lock")]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder

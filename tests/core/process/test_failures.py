import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.core.errors import ConfigError, DefectError, MachineError
from isthmus.core.process.failures import (
    in_our_words,
    machine_trouble,
    one_message,
    other_words,
    trouble_in,
    without_names,
)
from isthmus.core.progress import log
from tests.require import require


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "x", "out/a.npy"), "out/a.npy: the disk is full. Free some space and run the same"),
        (OSError(errno.EDQUOT, "x", "out/a.npy"), "out/a.npy: your disk quota is used up"),
        (OSError(errno.EFBIG, "x"), "the file would be larger than is allowed here. Raise the limit"),
        (OSError(errno.EROFS, "x", "out"), "out: lies on a read-only file system. Work in a copy"),
        (PermissionError(errno.EACCES, "x", "out"), "out: no permission. Correct the permissions"),
        (PermissionError(errno.EPERM, "x", b"out"), "out: not permitted"),
        (OSError(errno.EMFILE, "x"), "too many open files"),
        (MemoryError(), "out of memory"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "the disk is full"),
        (RuntimeError("[Errno 13] Permission denied: 'x'"), "no permission"),
        (sqlite3.OperationalError("database or disk is full"), "the disk is full"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 3840 vs 3734"), "the disk is full"),
        (OSError("8000000 requested and 512 written"), "the disk is full"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "lies on a read-only file system"),
        (sqlite3.OperationalError("unable to open database file"), "no permission"),
    ],
)
def test_trouble_of_the_machine_has_one_message_whichever_library_met_it(error: Exception, message: str) -> None:
    assert machine_trouble(error).startswith(message)
    assert isinstance(in_our_words(error, "x"), MachineError)


def test_the_cause_counts_and_not_only_what_a_library_made_of_it() -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, "x", "mlflow.db")
        except OSError as inner:
            raise RuntimeError("cannot log the model") from inner
    except RuntimeError as error:
        assert machine_trouble(error).startswith("mlflow.db: the disk is full")


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "x"), ValueError("os err"), KeyError("seed")])
def test_what_is_no_trouble_of_the_machine_is_not_called_so(error: Exception) -> None:
    assert machine_trouble(error) == ""


def test_a_users_mistake_keeps_its_own_words() -> None:
    error = ConfigError("params.yaml: seed: missing")

    assert in_our_words(error, "x") is error


def test_no_outlet_shows_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    told = "fatal: unable to access 'https://ann:secret@host/x.git': could not resolve"

    with pytest.raises(SystemExit), one_message("x"):
        raise ConfigError(told)
    log(f"snapshot: not pushed: {told}")

    shown = [*capsys.readouterr().err.splitlines(), other_words(told)]
    assert all("unable to access 'https://***@host/x.git': could" in line for line in shown) and len(shown) == 3


def test_another_programs_words_are_read_too() -> None:
    said = "ERROR: unexpected error - [Errno 30] Read-only file system: '/p/dvc.lock'"

    assert trouble_in(said).startswith("/p/dvc.lock: lies on a read-only file system")
    assert trouble_in("ERROR: failed to reproduce 'a'") == ""


def test_a_defect_keeps_its_traceback_in_a_file_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").touch()
    try:
        {}["scan_type"]
    except KeyError as error:
        told = in_our_words(error, "train-demo-coral")

    assert isinstance(told, DefectError) and told.exit_status == 1
    assert str(told).startswith(
        "KeyError: 'scan_type'. This is a bug in isthmus, not a mistake of yours; its traceback is"
    )
    log = Path(str(told).rpartition(" ")[2])
    assert log.parent == Path(".isthmus/log")
    assert "test_failures.py" in log.read_text()


def test_a_defect_outside_of_a_project_leaves_no_litter_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    log = Path(str(in_our_words(ValueError("x"), "x")).rpartition(" ")[2])

    assert list(tmp_path.iterdir()) == []
    assert "ValueError: x" in log.read_text()
    log.unlink()


def test_no_raw_file_is_named_neither_in_the_message_nor_in_the_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").touch()
    raw = tmp_path / "data" / "raw" / "ct"

    told = str(in_our_words(ValueError(f"bad: {raw}/DOE JOHN 1970.dcm"), "x", ["data/raw/ct"]))
    full = str(in_our_words(OSError(errno.EACCES, "x", f"{raw}/DOE JOHN 1970.dcm"), "x", ["data/raw/ct"]))

    assert "DOE" not in told + full + Path(told.rpartition(" ")[2]).read_text()
    assert full.startswith(f"{raw}/...: no permission")
    assert without_names("see data/raw/ct/DOE.dcm: broken", ["data/raw/ct"]) == "see data/raw/ct/...: broken"


PROGRAM = """\
import sys
from isthmus.core.process.failures import one_message
with one_message("demo"):
    {body}
"""


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("from isthmus.core.errors import DataError; raise DataError('no such folder')", 2, "error: no such folder\n"),
        ("raise KeyboardInterrupt", 130, "interrupted: no partial files are left; run the same command again\n"),
        ("open('/dev/full', 'w').write('x' * 10**6)", 2, "error: the disk is full."),
        ("1 / 0", 1, "error: ZeroDivisionError: division by zero. This is a bug in isthmus"),
        ("sys.exit(3)", 3, ""),
    ],
)
def test_a_process_ends_with_one_message_and_its_status(tmp_path: Path, body: str, status: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)],
        cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr


def test_a_reader_that_went_away_is_no_failure_to_tell(tmp_path: Path) -> None:
    code = PROGRAM.format(body="[print('x' * 1000, flush=True) for _ in range(1000)]")
    line = f"{sys.executable} -c {code!r} | head -c 1"
    done = subprocess.run(["bash", "-c", f"cat > p.py <<'E'\n{code}E\n{sys.executable} p.py | head -c 1"], cwd=tmp_path,
                          capture_output=True, text=True)  # fmt: skip

    assert (done.stdout, done.stderr) == ("x", ""), line


@pytest.mark.slow
def test_every_library_that_writes_our_files_is_understood_on_a_full_disk(tmp_path: Path) -> None:
    """On a real file system of 64 KiB: numpy, torch, safetensors, pandas, SQLite, JSON, PNG."""
    program = tmp_path / "write.py"
    program.write_text(WRITERS)
    place = tmp_path / "full"
    place.mkdir()
    inside = f"mount -t tmpfs -o size=64k tmpfs {place} && exec {sys.executable} {program} {place}"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside]
    works = shutil.which("unshare") and subprocess.run([*command[:4], "true"], capture_output=True).returncode == 0
    require("unshare with name spaces of users", bool(works))

    done = subprocess.run(command, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert set(said) == {"numpy", "torch", "safetensors", "parquet", "sqlite", "json", "png"}
    assert [name for name, words in said.items() if "the disk is full" not in words] == [], said


WRITERS = """\
import json, sqlite3, sys
from pathlib import Path
import numpy as np, pandas as pd, torch
from PIL import Image
from safetensors.numpy import save_file
from isthmus.core.process.failures import in_our_words
from isthmus.core.files import atomic_file, write_json
place = Path(sys.argv[1])
numbers = np.random.default_rng(0).normal(size=(300, 300))

def atomic(write):
    with atomic_file(place / "x.npy") as partial:
        write(partial)

def fill(path):
    base = sqlite3.connect(place / "x.db")
    base.execute("create table t (x)")
    base.executemany("insert into t values (?)", [("y" * 1000,)] * 1000)
    base.commit()

for name, write in {
    "numpy": lambda path: np.save(path.open("wb"), numbers),
    "torch": lambda path: torch.save({"x": torch.from_numpy(numbers)}, path),
    "safetensors": lambda path: save_file({"x": numbers}, path),
    "parquet": lambda path: pd.DataFrame(numbers, columns=[str(i) for i in range(300)]).to_parquet(path),
    "sqlite": fill,
    "json": lambda path: path.write_text(json.dumps(numbers.tolist())),
    "png": lambda path: Image.fromarray((numbers * 99).astype(np.uint8)).save(path, "png"),
}.items():
    try:
        atomic(write)
        print(f"{name}: it fits")
    except Exception as error:
        print(f"{name}: {in_our_words(error, 'x')}")
    for left in place.iterdir():
        left.unlink()
"""

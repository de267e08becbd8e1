"""Each hostile file alone among good images, through `ingest` and `isthmus add --dry-run`: its end, time and memory.

The table is written to docs/reliability.md. ISTHMUS_HOSTILE: only the files whose name holds this; other rows are kept.
"""

import ctypes
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.data.add.test_register import project
from tests.hostile_files import NAME, Hostile, hostile_files, remove
from tests.raw_folders import CLASSES, write_raw
from tests.soak.fuzzing import ADDRESS_SPACE
from tests.soak.reliability import rows_of, write_section

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
TITLE = "Hostile files"
ONLY = os.environ.get("ISTHMUS_HOSTILE", "")
SECONDS, MEGABYTES = 20, 2500  # of a whole command, its start and the good images included
PATIENCE = 120  # [s] by the clock, which a busy machine makes long; what waits for something takes no processor time
EACH = 12  # good images a class and domain
_DROP = 24  # PR_CAPBSET_DROP of prctl(2)
_READS_ALL = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: without them root may not open everything
OUTPUTS = ("manifest", "locations", "labels-target", "audit", "quarantine")
INGEST = ["isthmus.stages.ingest", "--params", "params.yaml", "--scenario", "demo", "--raw", "data/raw/demo"]
INGEST += [word for name in OUTPUTS for word in (f"--{name}", f"out/{name}")]
ADD = ["isthmus.cli", "add", "mine", "--source", "data/raw/demo/line_a", "--target", "data/raw/demo/line_b"]
HOW = f"""Each file lies alone among {4 * EACH} good images. `ingest` and `isthmus add --dry-run` run on the folder,
each as a process of its own that may take {SECONDS} s of processor time, {PATIENCE} s in all and {MEGABYTES} MB. A file
is right when both end as they must, no message is a traceback, and no message holds the name of a medical file."""


class Ended(NamedTuple):
    """How a command ended, with its processor time; status None: it was stopped after its time."""

    status: int | None
    words: str
    seconds: float
    megabytes: int


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of one scenario."""
    folder = project(tmp_path_factory.mktemp("home"))
    (folder / "dvc.yaml").write_text("stages: {}\n")
    write_raw(folder / "data" / "raw" / "demo", EACH)
    Image.fromarray(np.full((37, 41), 201, np.uint8)).save(folder / "outside.png")
    return folder


def test_each_hostile_file_is_read_or_refused_in_time_and_memory(home: Path) -> None:
    rows, wrong = rows_of(TITLE) if ONLY else {}, []
    for file in hostile_files(home / "outside.png"):
        if ONLY not in file.name:
            continue
        path = home / "data" / "raw" / "demo" / file.file
        try:
            file.make(path)
        except PermissionError:  # a device is for root to make
            rows[file.name] = f"| {file.name} | not made: needs root | | | |"
            continue
        describe(home, file)
        shutil.rmtree(home / "out", ignore_errors=True)
        found = run(home, INGEST, [*ADD, "--kind", file.kind, "--dry-run"])
        ends = end_of_ingest(home, file, found[0]), end_of_add(found[1])
        wrong += complaints(home, file, found, ends)
        remove(path)
        words = [end.replace("|", "/").replace("\n", " ")[:110] for end in ends]
        seconds, megabytes = (max(each) for each in zip(*[(f.seconds, f.megabytes) for f in found], strict=True))
        rows[file.name] = f"| {file.name} | {words[0]} | {words[1]} | {seconds:.1f} | {megabytes} |"
        print(rows[file.name], flush=True)
    head = [
        "| file | `ingest` | `add --dry-run` | processor [s] | memory [MB] |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    table = "\n".join([*head, *rows.values()])
    write_section(TITLE, f"{HOW}\n\n{table}")

    assert wrong == []


def describe(home: Path, file: Hostile) -> None:
    """Writes the scenario: of the file's kind, with the labels where the file has them."""
    demo = {"kind": file.kind, "raw": "data/raw/demo", "source": ["line_a"], "target": "line_b", "classes": CLASSES}
    demo |= {"target_labels": "table" if file.file == "images.csv" else "folders", "model": "small"}
    demo |= {"preprocess": {"image_size": 20} | ({"channels": 3} if file.kind == "natural" else {})}
    (home / "params.yaml").write_text(yaml.safe_dump({"seed": 0, "scenarios": {"demo": demo}}))


def run(home: Path, *commands: list[str]) -> tuple[Ended, ...]:
    """Runs modules side by side to their ends, or ends them after their time; memory is the most each ever held."""
    start, files = time.monotonic(), [home / f"words-{place}" for place in range(len(commands))]
    most, ended = [0] * len(commands), dict[int, Ended]()
    children = [_start(home, command, words) for command, words in zip(commands, files, strict=True)]
    while len(ended) < len(children):
        time.sleep(0.01)
        for place, child in enumerate(children):
            if place in ended:
                continue
            most[place] = max(most[place], _peak(child.pid))
            if late := time.monotonic() - start > PATIENCE:
                os.killpg(child.pid, signal.SIGKILL)
            pid, status, used = os.wait4(child.pid, 0 if late else os.WNOHANG)
            if pid:
                child.returncode = os.waitstatus_to_exitcode(status)
                seconds, words = used.ru_utime + used.ru_stime, files[place].read_text(errors="replace")
                ended[place] = Ended(None if late else child.returncode, words, seconds, most[place])
    return tuple(ended[place] for place in range(len(children)))


def _start(home: Path, command: list[str], words: Path) -> "subprocess.Popen[bytes]":
    with words.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", *command], cwd=home, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            start_new_session=True, preexec_fn=_bounded,
        )  # fmt: skip


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))  # what goes wrong must not end the machine
    for capability in _READS_ALL:
        ctypes.CDLL(None).prctl(_DROP, capability, 0, 0, 0)


def _peak(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), 0)


def end_of_ingest(home: Path, file: Hostile, ended: Ended) -> str:
    """Returns what became of the hostile file."""
    if ended.status is None:
        return "stopped after its time"
    if ended.status:
        return f"refused: {ended.words.strip()}" if ended.status == 2 else f"exit {ended.status}: {ended.words.strip()}"
    if quarantine := json.loads((home / "out" / "quarantine").read_text()):
        return f"quarantined: {quarantine[0]['reason']}" if len(quarantine) == 1 else f"quarantined: {quarantine}"
    audit = json.loads((home / "out" / "audit").read_text())
    if beside := audit["beside"]:
        return f"ignored: {', '.join(kind for kinds in beside.values() for kind in kinds)}"
    return f"read: {audit['images']['line_a'] - 2 * EACH} images"


def end_of_add(ended: Ended) -> str:
    """Returns how `add` ended: its last line, or its refusal."""
    if ended.status is None:
        return "stopped after its time"
    if ended.status:
        return f"refused: {ended.words.rpartition('error: ')[2].strip()}"
    return "dry run" if "a dry run, nothing was done" in ended.words else f"exit 0: {ended.words}"


def complaints(home: Path, file: Hostile, found: tuple[Ended, ...], ends: tuple[str, str]) -> list[str]:
    """Returns what is wrong with how the two commands ended."""
    wrong = []
    for command, ended, end, allowed in zip(("ingest", "add"), found, ends, (file.end, file.add), strict=True):
        if not re.match(allowed, end, re.DOTALL):
            wrong.append(f"{command}: {end}, not {allowed}")
        if ended.seconds > SECONDS or ended.megabytes > MEGABYTES:
            wrong.append(f"{command}: {ended.seconds:.1f} s, {ended.megabytes} MB")
        if "Traceback" in ended.words or 'File "' in ended.words:
            wrong.append(f"{command}: {ended.words}")
        if file.kind == "medical" and NAME in ended.words:
            wrong.append(f"{command}: names the file: {ended.words}")
    return [f"{file.name}: {what}" for what in wrong]

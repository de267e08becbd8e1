"""Kills processes of a run one after the other, in every way, and looks at what is left and at what the next run makes.

Two campaigns. On a project of trivial stages each kind of process gets each signal at the same place of the run. On the
real line, random processes get random signals at random moments. Whenever the line comes to its end, its files are
compared with those of a run that nobody disturbed, and the next kills are of a fresh project.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from isthmus.core.files import hash_files
from pipelines.leftovers import clear_leftovers
from tests.e2e.test_whole_line import ROOT
from tests.e2e.test_whole_line import project as write_line
from tests.pipelines.tiny_project import locks_in, processes_in, wait_until, write_project
from tests.servers import running_prefect

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
VICTIMS = ("command", "guard", "flow", "server", "stage supervisor", "stage guard", "dvc", "stage")
CHOSEN = os.environ.get("ISTHMUS_KILLS_OF", ",".join(VICTIMS)).split(",")
SECONDS_TO_END = 30.0
OUTPUTS = ("manifest.parquet", "prepared", "features", "shift", "train", "choice.json", "truth.json", "report")


@dataclass(frozen=True)
class Kill:
    """What one kill did.

    Attributes:
        program: what was running.
        victim: which of its processes was killed, `random` of all.
        number: the signal.
        seconds: until the program had ended [s]; None: it did not within half a minute.
        left: processes that lived on.
        next_run: "right", or what was wrong with it.
    """

    program: str
    victim: str
    number: signal.Signals
    seconds: float | None
    left: list[str]
    next_run: str

    @property
    def good(self) -> bool:
        """Whether all ended in time, nothing was left, and the next run came right."""
        return self.seconds is not None and not self.left and self.next_run == "right"


def rows(kills: list[Kill]) -> dict[str, str]:
    """Returns first cell -> row of a markdown table, one for all kills of the same process of the same program."""
    found: dict[str, list[Kill]] = {}
    for kill in kills:
        found.setdefault(f"{kill.program}: {kill.victim}", []).append(kill)
    return {name: f"| {name} | {_counted(same)} |" for name, same in found.items()}


def _counted(kills: list[Kill]) -> str:
    by = Counter(kill.number for kill in kills)
    ended = [kill.seconds for kill in kills if kill.seconds is not None]
    slowest = f"{max(ended):.1f}" if len(ended) == len(kills) else f"never: {len(kills) - len(ended)}"
    left = sum(len(kill.left) for kill in kills)
    good = sum(kill.good for kill in kills)
    return f"{len(kills)} | {', '.join(str(by[number]) for number in SIGNALS)} | {slowest} | {left} | {good}"


def environment(folder: Path) -> dict[str, str]:
    """Returns the environment of every program here: this checkout's code, Prefect's own server in the project."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return kept | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": path, "PREFECT_HOME": str(folder / "prefect")}


def each_process_each_signal(folder: Path) -> Iterator[Kill]:
    """Kills each process of `isthmus run` by each signal, in the middle of two stages."""
    folder.mkdir(parents=True, exist_ok=True)
    with running_prefect(folder) as api:
        for victim in CHOSEN:
            for number in SIGNALS:
                yield _one_kill(folder, api, victim, number)


def _one_kill(folder: Path, api: str, victim: str, number: signal.Signals) -> Kill:
    command = [sys.executable, "-m", "isthmus.cli", "run", "tiny", "--no-check", "--no-publish"]
    project = write_project(folder / "project", seconds=600)
    # a server that is up saves time; the flow has one of its own only where that is what is killed
    server = {} if victim == "server" else {"PREFECT_API_URL": api}
    process = start(command, project, environment(folder) | server)
    wait_until(lambda: (project / "started_a").exists(), "a stage", 180)
    wait_until(lambda: victim in _roles(process.pid), f"the {victim}", 30)
    tree = tree_of(process.pid)
    os.kill(_roles(process.pid)[victim], number)
    if victim in ("server", "stage supervisor", "stage guard", "dvc", "stage"):
        (project / "go").touch()  # what was not killed goes on: it need not be waited out
    seconds = wait_for_end(process)
    left = _left(tree, project)
    (project / "go").touch()
    next_run = _next_run(command, project, environment(folder) | {"PREFECT_API_URL": api})
    shutil.rmtree(project)
    return Kill("isthmus run", victim, number, seconds, left, next_run)


def random_kills(folder: Path, count: int, seed: int) -> Iterator[Kill]:
    """Kills random processes of the real line at random moments; the last kill of a project tells how it ended.

    `isthmus run` and a plain `dvc repro`, which nobody supervises, take turns on the same project.
    """
    chance = random.Random(seed)
    run = [sys.executable, "-m", "isthmus.cli", "run", "demo", "--no-publish"]
    repro = [sys.executable, "-m", "dvc", "repro", "report@demo"]
    undisturbed, project = write_line(folder / "undisturbed"), write_line(folder / "killed")
    done = subprocess.run(run, cwd=undisturbed, env=environment(folder), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    last: Kill | None = None
    made = 0
    while made < count:
        program, command = [("isthmus run", run), ("dvc repro", repro)][made % 2]
        # what a killed dvc leaves stops a plain `dvc repro`; `isthmus run` puts it right
        clear_leftovers(project)
        process = start(command, project, environment(folder))
        end = time.monotonic() + chance.uniform(1, 40)
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.1)
        tree = tree_of(process.pid)
        if process.poll() is not None:  # it came to its end first
            if last is not None:
                yield replace(last, next_run=_compared(run, folder))
            last = None
            shutil.rmtree(project)
            write_line(project)
            continue
        sent = chance.choice(SIGNALS)
        with suppress(psutil.NoSuchProcess):
            chance.choice(tree).send_signal(sent)
        if last is not None:
            yield last
        # a stage that was killed ends the run only when those beside it are through
        seconds = wait_for_end(process, 300)
        last = Kill(f"{program}, the real line", "random", sent, seconds, _left(tree, project), "right")
        made += 1
    if last is not None:
        yield replace(last, next_run=_compared(run, folder))


def start(command: list[str], project: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    # a shell that starts this in the background has it ignore SIGINT, and children inherit that
    return subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def tree_of(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _roles(pid: int) -> dict[str, int]:
    """Returns the processes by what they do; they are told by their place and their command line."""
    found: dict[str, int] = {}
    for process in tree_of(pid):
        try:
            words, parent = " ".join(process.cmdline()), process.ppid()
        except psutil.NoSuchProcess:
            continue
        if process.pid == pid:
            role = "command"
        elif parent == found.get("command"):
            role = "guard"
        elif parent == found.get("guard"):
            role = "flow"
        elif "uvicorn" in words:
            role = "server"
        elif parent == found.get("flow") and "supervisor.py" in words:
            role = "stage supervisor"
        elif parent == found.get("stage supervisor"):
            role = "stage guard"
        elif parent == found.get("stage guard"):
            role = "dvc"
        elif "stage.py" in words and not words.startswith(("/bin/sh", "sh", "/bin/bash", "bash")):
            role = "stage"
        else:
            continue
        found.setdefault(role, process.pid)
    return found


def wait_for_end(process: "subprocess.Popen[bytes]", patience: float = SECONDS_TO_END) -> float | None:
    begin = time.monotonic()
    try:
        process.wait(patience)
        return time.monotonic() - begin
    except subprocess.TimeoutExpired:
        for one in reversed(tree_of(process.pid)):
            one.kill()
        process.wait()
        return None


def _left(tree: list[psutil.Process], project: Path) -> list[str]:
    """Returns what still runs some seconds later, and ends it."""
    give_up = time.monotonic() + 15
    while (living := [one for one in tree if lives(one)] + processes_in(project)) and time.monotonic() < give_up:
        time.sleep(0.1)
    names = [one if isinstance(one, str) else f"{one.pid} {one.name()}" for one in living]
    for one in living:
        (psutil.Process(int(one.split()[0])) if isinstance(one, str) else one).kill()
    return names


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _next_run(command: list[str], project: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    if done.returncode:
        return f"failed: {done.stderr.splitlines()[-1:]}"
    if (project / "tiny.md").read_text() != "1a1b":
        return "other bytes"
    return "locks left" if locks_in(project) else "right"


def _compared(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder / "killed", env=environment(folder), capture_output=True, text=True)
    if done.returncode:
        return f"failed: {done.stderr.splitlines()[-1:]}"
    differ = [
        name
        for name in OUTPUTS
        if hash_files([folder / "killed/out/demo" / name]) != hash_files([folder / "undisturbed/out/demo" / name])
    ]
    return f"other bytes: {', '.join(differ)}" if differ else "right"

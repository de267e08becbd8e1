"""Thirty random moments of `isthmus run`, of `dvc repro` and of a Prefect worker: signals, a lost server, a full disk.

The project is the real line from raw files to prepared images, with a short last stage. Each moment has a fresh copy of
it, and the files after the next run are compared with those of a run that nobody disturbed.
"""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from isthmus.core.files import sha256_file
from pipelines.leftovers import clear_leftovers, clear_stale_locks
from tests.e2e.test_whole_line import ROOT
from tests.e2e.test_whole_line import project as write_line
from tests.pipelines.tiny_project import locks_in
from tests.servers import running_prefect
from tests.soak.kills import SIGNALS, environment, lives, start, tree_of, wait_for_end

RUN = [sys.executable, "-m", "isthmus.cli", "run", "demo", "--no-publish"]
REPRO = [sys.executable, "-m", "dvc", "repro", "report@demo"]
PREFECT = [sys.executable, "-m", "prefect"]
WORKER = [*PREFECT, "worker", "start", "--pool", "isthmus", "--type", "process", "--limit", "1"]
COMMANDS = {"isthmus run": RUN, "dvc repro": REPRO, "Prefect worker": WORKER}
STAGES = ("code", "ingest", "labels", "prepare")
LAST = {  # in place of `report`, which takes longer than all before it
    "cmd": "ls out/${key}/prepared/* > out/${key}/prepared.txt",
    "deps": ["out/${key}/prepared", "out/${key}/labels_train.parquet"],
    "outs": ["out/${key}/prepared.txt"],
}
SECONDS_TO_END = 200.0  # Prefect waits two minutes for a server that was killed while it started
DISK = 64  # [MiB] of the project's own disk
_MARK = "ISTHMUS_MOMENT"  # in the environment of all that a moment starts, so that orphans are found


@dataclass(frozen=True)
class Moment:
    """One moment: `share` is that of the program's usual time after which `what` is done to it."""

    number: int
    program: str
    what: str
    share: float

    @property
    def name(self) -> str:
        """The test's name."""
        return f"{self.number:02d}, {self.program}, {self.what}"


@dataclass
class Seen:
    """What a moment did: when [s], in which stages, how long until the end [s], what was left, the next run."""

    seconds: float = 0.0
    stages: list[str] = field(default_factory=list)
    ended: float | None = None
    left: list[str] = field(default_factory=list)
    next_run: str = "none"

    @property
    def good(self) -> bool:
        """Whether the program ended, nothing was left, and the next run came right."""
        return self.ended is not None and not self.left and self.next_run.startswith("right")


def moments(seed: int) -> list[Moment]:
    """Returns the thirty, in groups of the same trouble at other moments."""
    chance, limits = random.Random(seed), random.Random(seed)
    plan = [("isthmus run", f"{s.name} to {of}") for of in ("the flow", "dvc", "a stage") for s in SIGNALS]
    plan += [("dvc repro", f"{s.name} to {of}") for of in ("dvc", "a stage") for s in SIGNALS]
    plan += [("Prefect worker", f"{s.name} to the worker") for s in SIGNALS]
    plan += [("isthmus run", "Prefect's server is lost")] * 3
    plan += [("isthmus run", "the disk is full")] * 3 + [("dvc repro", "the disk is full")] * 2
    # over 32 and 15 nothing fails
    plan += [("isthmus run", f"ulimit -n {limits.randint(16, 30)}") for _ in range(2)]
    plan += [("dvc repro", f"ulimit -n {limits.randint(9, 15)}") for _ in range(2)]
    return [
        Moment(number, program, what, round(chance.uniform(0.15, 0.85), 3))
        for number, (program, what) in enumerate(plan, 1)
    ]


def row(moment: Moment, seen: Seen) -> str:
    """Returns a moment's row of the table."""
    place = ", ".join(seen.stages) or "between stages"
    when = "from the start" if moment.what.startswith("ulimit") else f"{seen.seconds:.1f} s: {place}"
    ended = f"{seen.ended:.1f}" if seen.ended is not None else "never"
    cells = [moment.number, moment.program, moment.what, when, ended, len(seen.left)]
    return f"| {' | '.join(map(str, cells))} | {seen.next_run} |"


class TooLateError(Exception):
    """A program ended by itself before there was any trouble, after so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Campaign:
    """The undisturbed project, its usual times [s], and the server of all next runs."""

    def __init__(self, folder: Path, api: str) -> None:
        self.folder, self.api = folder, api
        self.fresh = _write_short_line(folder / "fresh")
        self.undisturbed = Path(shutil.copytree(self.fresh, folder / "undisturbed", symlinks=True))
        self.usual: dict[str, float] = {}
        for program in ("dvc repro", "isthmus run"):
            begin = time.monotonic()
            done = subprocess.run(
                COMMANDS[program], cwd=self.undisturbed, env=self._environment(), capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            self.usual[program] = time.monotonic() - begin
        # beside what it takes to start it runs two stages at once
        self.usual["Prefect worker"] = self.usual["dvc repro"] / 2
        self.usual["isthmus run"] += self.usual["Prefect worker"]

    def disturb(self, moment: Moment) -> Seen:
        """Does to a fresh copy what a moment wants, and runs it to its end afterwards; too late, it tries earlier."""
        with _own_disk(self.folder / "disk") if "disk" in moment.what else _no_disk(self.folder) as place:
            while True:
                project = Path(shutil.copytree(self.fresh, place / "project", symlinks=True))
                try:
                    return self._disturb(moment, project)
                except TooLateError as error:
                    self.usual[moment.program] = 0.9 * error.seconds
                finally:
                    shutil.rmtree(project, ignore_errors=True)

    def _disturb(self, moment: Moment, project: Path) -> Seen:
        marked = self._environment() | {_MARK: f"{moment.number}-{os.getpid()}"}
        if "server" in moment.what or "disk" in moment.what:
            # the flow has a server of its own with its record in the project, as where nobody set one up
            del marked["PREFECT_API_URL"], marked["PREFECT_HOME"]
        process = _begin(moment, project, marked)
        seen = Seen()
        try:
            while moment.program == "Prefect worker" and not _stages(process.pid):
                time.sleep(0.02)  # else a moment would come before the worker has begun
            begin = time.monotonic()
            give = begin + moment.share * self.usual[moment.program]
            while time.monotonic() < give and process.poll() is None and "ulimit" not in moment.what:
                time.sleep(0.02)
            mend = _trouble(moment.what, process, project)
            seen.seconds = time.monotonic() - begin
            if mend is None:
                raise TooLateError(seen.seconds)
            seen.stages = _stages(process.pid)
            seen.ended = wait_for_end(process, SECONDS_TO_END)
            seen.left = _left(marked[_MARK])
            mend()
            seen.next_run = self._next_run(moment.program, project)
        finally:
            wait_for_end(process, 0)
        return seen

    def _environment(self) -> dict[str, str]:
        return environment(self.folder) | {"PREFECT_API_URL": self.api}

    def _next_run(self, program: str, project: Path) -> str:
        command = COMMANDS["dvc repro" if program == "dvc repro" else "isthmus run"]
        done = subprocess.run(command, cwd=project, env=self._environment(), capture_output=True, text=True)
        how = "right"
        if done.returncode and program == "dvc repro":
            how = f"right, by `isthmus run` (`dvc repro`: {' '.join(done.stderr.split())[-80:]})"
            done = subprocess.run(RUN, cwd=project, env=self._environment(), capture_output=True, text=True)
        if done.returncode:
            return f"failed: {' '.join(done.stderr.split())[-200:]}"
        if program == "dvc repro" and locks_in(project):
            how += "; DVC's lock table names a dead process until the next `isthmus run`"
            clear_stale_locks(project)
        return self._differs(project) or how

    def _differs(self, project: Path) -> str:
        """Returns what is other than after an undisturbed run, empty where nothing is."""
        mine, theirs = _files(project), _files(self.undisturbed)
        wrong = sorted(name for name in mine | theirs if mine.get(name) != theirs.get(name))
        if wrong:
            print(*(f"{name}: {mine.get(name)} for {theirs.get(name)}" for name in wrong), sep="\n")
            return f"other files: {', '.join(wrong)}"
        if locks_in(project):
            return "locks left"
        if partial := [path.name for path in project.rglob("*.partial")]:
            return f"left half-written: {', '.join(partial)}"
        if cleared := clear_leftovers(project):
            return f"left half-written: {'; '.join(cleared)}"
        kept = [path for path in (project / ".dvc/cache/files/md5").glob("??/*") if path.suffix != ".dir"]
        broken = [path.name for path in kept if hashlib.md5(path.read_bytes()).hexdigest() != _name(path)]
        return f"half-written in DVC's cache: {', '.join(broken)}" if broken else ""


@contextmanager
def campaign(folder: Path) -> Iterator[Campaign]:
    """Makes the undisturbed project and a server for the runs after each trouble."""
    folder.mkdir(parents=True, exist_ok=True)
    with running_prefect(folder) as api:
        yield Campaign(folder, api)


def _write_short_line(folder: Path) -> Path:
    project = write_line(folder)
    shutil.copy(ROOT / ".gitignore", project)  # of `out/`, as every project has: dvc then lists no outputs there itself
    (project / "prefect.yaml").write_text(yaml.safe_dump(_deployment()))
    graph = yaml.safe_load((project / "dvc.yaml").read_text())
    stages = {name: graph["stages"][name] for name in STAGES}
    stages["report"] = {"foreach": "${scenarios}", "do": LAST}
    (project / "dvc.yaml").write_text(yaml.safe_dump(graph | {"stages": stages}, sort_keys=False))
    subprocess.run([*REPRO[:-1], "code"], cwd=project, env=environment(folder), check=True, capture_output=True)
    return project


def _deployment() -> dict[str, object]:
    parameters = {"scenarios": ["demo"], "publish": False}
    one = {"name": "now", "entrypoint": "pipelines.transfer.transfer", "parameters": parameters}
    return {"name": "chaos", "deployments": [one | {"work_pool": {"name": "isthmus"}, "schedules": []}]}


def _begin(moment: Moment, project: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    if moment.program == "Prefect worker":
        for words in (
            ["work-pool", "create", "isthmus", "--type", "process", "--overwrite"],
            ["--no-prompt", "deploy", "--all"],
            ["deployment", "run", "transfer/now"],
        ):
            subprocess.run([*PREFECT, *words], cwd=project, env=environment, check=True, capture_output=True)
    limit = ["bash", "-c", f'{moment.what}; exec "$@"', "bash"] if moment.what.startswith("ulimit") else []
    return start([*limit, *COMMANDS[moment.program]], project, environment)


def _trouble(what: str, process: "subprocess.Popen[bytes]", project: Path) -> Callable[[], object] | None:
    """Makes trouble now, or as soon as there is what it is made for; returns what takes it away again.

    None: the program has come to its end before.
    """
    if what.startswith("ulimit"):
        return lambda: None  # it is there from the start
    if process.poll() is not None:
        return None
    if what == "the disk is full":
        return _fill(project.parent / "filler")
    name, of = ("SIGKILL", "server") if "server" in what else what.split(" to ")
    while process.poll() is None:
        with suppress(IndexError, psutil.NoSuchProcess):
            _those(of.split()[-1], process.pid)[-1].send_signal(signal.Signals[name])
            return lambda: None
        time.sleep(0.02)
    return None


def _those(role: str, pid: int) -> list[psutil.Process]:
    """Returns the processes of a role, by their command lines; a fork of several with the same one comes last."""
    found = []
    for one in tree_of(pid):
        with suppress(psutil.NoSuchProcess):
            words = one.cmdline()
            supervised = any(word.endswith("supervisor.py") for word in words)
            match role:
                case "flow":
                    right = "isthmus.cli" in words and "run" in words
                case "server":
                    right = "uvicorn" in words
                case "dvc":
                    right = "repro" in words and not supervised
                case "stage":
                    right = any(word.startswith("isthmus.stages.") for word in words)
                case _:
                    right = one.pid == pid
            if right:
                found.append(one)
    return found


def _stages(pid: int) -> list[str]:
    names = []
    for one in _those("stage", pid):
        with suppress(psutil.NoSuchProcess, StopIteration):
            names.append(next(word for word in one.cmdline() if word.startswith("isthmus.stages.")).rpartition(".")[2])
    return sorted(set(names))


def _left(mark: str) -> list[str]:
    """Returns what a moment started and still runs some seconds after its program has ended, and ends it."""
    give_up = time.monotonic() + 15
    while (living := _marked(mark)) and time.monotonic() < give_up:
        time.sleep(0.1)
    names = []
    for one in living:
        with suppress(psutil.NoSuchProcess):
            names.append(f"{one.pid} {' '.join(one.cmdline())[:80]}")
            one.kill()
    return names


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            if lives(one) and one.environ().get(_MARK) == mark:
                found.append(one)
    return found


@contextmanager
def _own_disk(place: Path) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "tmpfs", place], check=True, capture_output=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True, capture_output=True)
        place.rmdir()


@contextmanager
def _no_disk(folder: Path) -> Iterator[Path]:
    yield folder


def _fill(filler: Path) -> Callable[[], object]:
    with suppress(OSError), filler.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))
    return filler.unlink


def _files(project: Path) -> dict[str, object]:
    """Returns path -> content, as far as it must be the same after each run: no order of stages, no record of runs."""
    passing = (".git/", ".dvc/cache/", ".dvc/tmp/", ".isthmus/", "src/")
    found: dict[str, object] = {}
    for path in project.rglob("*"):
        name = path.relative_to(project).as_posix()
        if not path.is_file() or name.startswith(passing) or "__pycache__" in name:
            continue
        if name == "dvc.lock":  # its entries stand in the order in which stages ended
            entries = yaml.safe_load(path.read_text())["stages"]
            found |= {f"{name}: {stage}": entry for stage, entry in entries.items()}
        else:
            found[name] = sha256_file(path)
    return found


def _name(path: Path) -> str:
    return path.parent.name + path.name

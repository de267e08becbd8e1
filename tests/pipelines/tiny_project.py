"""Writes a DVC project of a few trivial stages, and looks at what its processes leave behind."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]

# A stage that says when it runs, so that a test can kill something in the middle of it; a file `go` lets it end.
SLOW_STAGE = """\
import pathlib, sys, time
name, seconds = sys.argv[1], float(sys.argv[2])
pathlib.Path(f"started_{name}").write_text("")
with open("runs.log", "a") as log:
    log.write(name + "\\n")
print("working on", name, flush=True)
give_up = time.monotonic() + seconds
while time.monotonic() < give_up and not pathlib.Path("go").exists():
    time.sleep(0.05)
pathlib.Path(f"{name}.txt").write_text(pathlib.Path("input.txt").read_text() + name)
"""


def write_project(folder: Path, *, seconds: float = 0.0, git: bool = False) -> Path:
    """Writes `first` -> `train@tiny-a`, `train@tiny-b` -> `report@tiny`; both train stages take `seconds` each."""
    folder.mkdir(parents=True, exist_ok=True)
    if git:
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    else:
        init_without_git(folder)
    (folder / "stage.py").write_text(SLOW_STAGE)
    (folder / "input.txt").write_text("1")
    (folder / "params.yaml").write_text("scenarios: {tiny: {}}\nmethods: {a: {}, b: {}}\n")
    stages = {
        "first": {"cmd": "python stage.py first 0", "deps": ["input.txt"], "outs": ["first.txt"]},
        "train": {
            "matrix": {"scenario": "${scenarios}", "method": "${methods}"},
            "cmd": f"python stage.py ${{item.method}} {seconds}",
            "deps": ["first.txt"],
            "outs": ["${item.method}.txt"],
        },
        "report": {
            "foreach": "${scenarios}",
            "do": {"cmd": "cat a.txt b.txt > ${key}.md", "deps": ["a.txt", "b.txt"], "outs": ["${key}.md"]},
        },
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    return folder


def init_without_git(folder: Path) -> None:
    """Writes what `dvc init --no-scm` does, without its half a second."""
    (folder / ".dvc" / "tmp").mkdir(parents=True)
    (folder / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")
    (folder / ".dvc" / "tmp" / "btime").touch()
    (folder / ".dvcignore").touch()


def default_signals() -> None:
    """For `preexec_fn`: a shell that starts the tests in the background has all below it ignore SIGINT and SIGHUP."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def runs(project: Path) -> list[str]:
    """Returns the names of the slow stages that really ran, in order."""
    log = project / "runs.log"
    return log.read_text().split() if log.exists() else []


def wait_until(true: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Returns as soon as something holds; fails after a time [s]."""
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def processes_in(folder: Path) -> list[str]:
    """Returns the command lines of living processes whose current folder is this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve() == folder and "Z" not in (process / "stat").read_text().rpartition(")")[2][
                :3
            ]:
                found.append(f"{process.name} {(process / 'cmdline').read_text().replace(chr(0), ' ')}")
        except OSError:
            continue  # it ended meanwhile
    return found


def locks_in(project: Path) -> bool:
    """Says whether dvc's lock table names any process."""
    table = project / ".dvc" / "tmp" / "rwlock"
    return table.exists() and "pid" in table.read_text()

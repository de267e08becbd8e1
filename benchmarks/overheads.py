"""What Isthmus and DVC cost beside the work itself: the command line, the start of each stage, and DVC's own graph.

`python -m benchmarks.overheads [--project FOLDER --scenario NAME] [--write .]`

Times of the command line and of imports are processor time of a process, by turns, the least of a few: another process
on the same processors changes it little. DVC's are of `dvc repro` in graphs made here of stages that do nothing: this
repository's `dvc.yaml` for one scenario and for ten, each command a line of text, and a bare chain of as many stages.
With a finished project, `isthmus run` of a scenario where nothing is to be done is compared with `dvc status` and a
flow of Prefect that does nothing, each by the clock.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.performance import DOCUMENT, Row, facts, goals, ratio
from benchmarks.sections import table, write_section

_BIN = Path(sys.executable).parent
_ENVIRONMENT = os.environ | {"DVC_NO_ANALYTICS": "1", "PATH": f"{_BIN}:{os.environ['PATH']}"}
STAGES = (
    "code", "ingest", "labels", "prepare", "embed", "shift", "train", "select", "evaluate", "explain", "robustness",
    "report",
)  # fmt: skip
_HELP, _CACHED, _RUN = 0.1, 1.2, 1.5  # [s]; ratio to a bare graph; ratio to `dvc status` and Prefect's start
_NOTHING = """
from prefect import flow
@flow
def nothing(): pass
nothing()
"""


def processor_seconds(command: list[str], folder: Path | None = None) -> float:
    """Returns what a command and its children used.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=_ENVIRONMENT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def least(commands: dict[str, list[str]], rounds: int, folder: Path | None = None) -> dict[str, float]:
    """Returns the least processor time of each command, run by turns."""
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            found[name].append(processor_seconds(command, folder))
    return {name: min(each) for name, each in found.items()}


def graph(folder: Path) -> int:
    """Writes a DVC project with this repository's stages, which make files of a line; returns those of a scenario."""
    document: dict[str, Any] = yaml.safe_load(Path("dvc.yaml").read_text())
    params: dict[str, Any] = yaml.safe_load(Path("params.yaml").read_text())
    one = next(iter(params["scenarios"].values()))
    params |= {"scenarios": {"s0": one | {"raw": "raw"}}, "pairs": {}}
    for stage in document["stages"].values():
        inner = stage.get("do", stage)
        given = [out for kind in ("outs", "metrics", "plots") for out in inner.get(kind, [])]
        outs = [out if isinstance(out, str) else next(iter(out)) for out in given]
        inner["cmd"] = "; ".join(f"mkdir -p $(dirname {out}) && echo {out} > {out}" for out in outs)
        inner["deps"] = [dep for dep in inner.get("deps", []) if not dep.startswith("out/code/")]
    document["stages"]["code"]["deps"] = ["raw"]
    _write(folder, document, params)
    return len(document["stages"].keys() - {"simulate", "pretrain", "train", "code"}) + len(params["methods"])


def ten(one: Path, folder: Path) -> None:
    """Copies a finished project of `graph` and adds nine scenarios with the same results to it."""
    shutil.copytree(one, folder)
    params, lock = (yaml.safe_load((one / name).read_text()) for name in ("params.yaml", "dvc.lock"))
    for number in range(1, 10):
        params["scenarios"][f"s{number}"] = params["scenarios"]["s0"]
        shutil.copytree(folder / "out" / "s0", folder / "out" / f"s{number}")
        for name, entry in list(lock["stages"].items()):
            if "@s0" in name:
                again = yaml.safe_dump(entry).replace("s0", f"s{number}")
                lock["stages"][name.replace("@s0", f"@s{number}")] = yaml.safe_load(again)
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    _write(folder, yaml.safe_load((one / "dvc.yaml").read_text()), params)


def _write(folder: Path, document: dict[str, Any], params: dict[str, Any]) -> None:
    for name, content in (("dvc.yaml", document), ("params.yaml", params)):
        (folder / name).write_text(yaml.safe_dump(content, sort_keys=False))


def chain(folder: Path, count: int) -> None:
    """Writes a DVC project with a chain of stages, one file each."""
    stages = {}
    for number in range(count):
        before = f"f{number - 1}" if number else "raw"
        stages[f"s{number}"] = {"cmd": f"echo {number} > f{number}", "deps": [before], "outs": [f"f{number}"]}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))


def begin(folder: Path) -> Path:
    """Makes a folder a DVC project with an empty input."""
    folder.mkdir()
    for name in ("raw", "data/labels", "plugins"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text(name)
    processor_seconds([str(_BIN / "dvc"), "init", "--no-scm", "-q"], folder)
    return folder


def dvc(rounds: int) -> tuple[dict[str, float], int]:
    """Returns processor seconds of cached and forced runs, and the stages of a scenario."""
    with tempfile.TemporaryDirectory() as root:
        folders = {name: Path(root) / name for name in ("bare", "one", "ten")}
        count = graph(begin(folders["one"]))
        chain(begin(folders["bare"]), count)
        last = {"bare": f"s{count - 1}", "one": "report@s0", "ten": "report@s0"}
        for name in ("bare", "one"):
            processor_seconds([str(_BIN / "dvc"), "repro", "-q"], folders[name])
        ten(folders["one"], folders["ten"])
        found: dict[str, list[float]] = {}
        for _ in range(rounds):
            for name, folder in folders.items():
                cached = processor_seconds([str(_BIN / "dvc"), "repro", "-q", last[name]], folder)
                forced = processor_seconds([str(_BIN / "dvc"), "repro", "-q", "-s", "-f", last[name]], folder)
                found.setdefault(f"{name}, cached", []).append(cached)
                found.setdefault(f"{name}, last stage forced", []).append(forced)
        return {name: median(each) for name, each in found.items()}, count


def cached_run(project: Path, scenario: str, rounds: int) -> Row:
    """Returns the row of a run that has nothing to do."""
    commands = {
        "run": [str(_BIN / "isthmus"), "run", scenario, "--quiet"],
        "status": [str(_BIN / "dvc"), "status", "-q", f"report@{scenario}"],
        "prefect": [sys.executable, "-c", _NOTHING],
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            start = time.monotonic()
            subprocess.run(command, cwd=project, check=True, capture_output=True, env=_ENVIRONMENT)
            found[name].append(time.monotonic() - start)
    bare = [status + prefect for status, prefect in zip(found["status"], found["prefect"], strict=True)]
    against = ratio(found["run"], bare)
    return Row(
        "cached `isthmus run` of a scenario, by the clock, against `dvc status` and an empty flow of Prefect",
        f"{median(found['run']):.1f} s; {median(found['status']):.1f} s and {median(found['prefect']):.1f} s",
        f"at most {_RUN}", f"{against:.2f}", against <= _RUN,
    )  # fmt: skip


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/performance.md gets the tables")
    parser.add_argument("--project", type=Path, help="with a finished scenario")
    parser.add_argument("--scenario", default="industrial")
    given = parser.parse_args()
    starts = least(
        {stage: [sys.executable, "-m", f"isthmus.stages.{stage}", "--help"] for stage in STAGES}, given.rounds
    )
    shown = least(
        {"help": [str(_BIN / "isthmus"), "--help"], "python": [sys.executable, "-c", "pass"]}, 5 * given.rounds
    )
    graphs, count = dvc(given.rounds)
    against = graphs["one, cached"] / graphs["bare, cached"]
    grown = graphs["ten, cached"] / graphs["one, cached"]
    rows = [
        Row(
            f"`isthmus --help`, of which Python {shown['python']:.3f} s",
            f"{shown['help']:.3f} s", f"at most {_HELP} s", f"{shown['help'] / _HELP:.2f}", shown["help"] <= _HELP,
        ),
        Row(
            f"cached `dvc repro` of a scenario, {count} stages, against a bare chain of as many",
            f"{graphs['one, cached']:.2f} s", f"at most {_CACHED}", f"{against:.2f}", against <= _CACHED,
        ),
        Row(
            "the same beside nine other scenarios, against it alone",
            f"{graphs['ten, cached']:.2f} s", f"at most {_CACHED}", f"{grown:.2f}", grown <= _CACHED,
        ),
    ]  # fmt: skip
    if given.project:
        rows.append(cached_run(given.project, given.scenario, given.rounds))
    text = "\n\n".join(
        [
            f"{facts('dvc', 'torch', 'typer')} Processor seconds.",
            goals(rows),
            table(("graph", "seconds"), *[(name, f"{seconds:.2f}") for name, seconds in graphs.items()]),
            table(("start of the stage", "seconds"), *[(stage, f"{seconds:.2f}") for stage, seconds in starts.items()]),
        ]
    )
    print(text)
    if given.write:
        write_section(given.write / DOCUMENT, "overheads", text)


if __name__ == "__main__":
    main()

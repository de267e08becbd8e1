"""What a scenario costs from raw files to a registered model, and how much of it is start-up, DVC and MLflow.

python -m benchmarks.demo --project FOLDER [--scenario industrial] [--write .]

FOLDER becomes a clone of this repository's last commit, as `make demo` finds it after the installation, and stays:
`benchmarks.overheads` and `benchmarks.serving` measure in it. All times are by the clock, so nothing else should run.
A stage's compute is its command's time less that of the same command with `--help`, which imports what the stage does
and ends; `dvc repro` then runs the same stages once more. Logging is all that `isthmus publish` hands to MLflow's store
as params and metrics, of a new SQLite file, against the trainings' compute.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.performance import DOCUMENT, Row, facts, goals
from benchmarks.sections import table, write_section

REPOSITORY = Path(__file__).parents[1]
_BIN = Path(sys.executable).parent
_FIRST, _AGAIN = 120.0, 12.0  # [s] of `make demo` after the installation, and of its second call
_COMPUTE = 1.5  # [of the stages' compute] that `dvc repro` takes
_LOGGING = 0.01  # [share] of the trainings' compute
_BEFORE = ("code", "simulate", "ingest", "labels", "prepare", "embed")  # stages that are not repeated
_ROUNDS = 3  # of each stage's start
_LOG = """
import sys, time
from pathlib import Path
from isthmus.registry.publish.publish import publish
from isthmus.registry.store.tracking import Store
spent, log = [], Store.log
def timed(*given):
    start = time.monotonic()
    log(*given)
    spent.append(time.monotonic() - start)
Store.log = timed
publish(Path.cwd(), sys.argv[1])
print(sum(spent))
"""


def clone(folder: Path) -> None:
    """Clones the last commit."""
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(folder)], check=True)


def run(folder: Path, *command: str, **more: str) -> tuple[float, str]:
    """Runs a command of this environment on a clone's own code; returns seconds by the clock, and standard output.

    Raises:
        SystemExit: it failed.
    """
    environment = {
        "PATH": f"{_BIN}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder / "src"),
        "DVC_NO_ANALYTICS": "1",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    print(f"$ {shlex.join(command)[:120]}", flush=True)
    start = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=os.environ | environment | more, capture_output=True, text=True)
    seconds = time.monotonic() - start
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return seconds, done.stdout


def commands(lock: dict[str, Any], scenario: str) -> dict[str, list[str]]:
    """Returns stage -> command of what follows `embed`, as `dvc.lock` has it and in its order.

    >>> entry = {"cmd": "python -m isthmus.core.names params.yaml\\npython -m isthmus.stages.shift --features 'a b'"}
    >>> commands({"stages": {"embed@s": entry, "shift@s": entry, "shift@other": entry}}, "s")
    {'shift@s': ['python', '-m', 'isthmus.stages.shift', '--features', 'a b']}
    """
    found = {}
    for stage, entry in lock["stages"].items():
        name, _, key = stage.partition("@")
        if name not in _BEFORE and (key == scenario or key.startswith(f"{scenario}-")):
            found[stage] = shlex.split(entry["cmd"].splitlines()[-1])
    return found


def compute_of(folder: Path, stages: dict[str, list[str]]) -> dict[str, tuple[float, float]]:
    """Returns what each stage takes without its start, and its start [s]."""
    starts: dict[str, float] = {}
    found = {}
    for stage, command in stages.items():
        module = command[2]
        if module not in starts:
            starts[module] = median(run(folder, *command[:3], "--help")[0] for _ in range(_ROUNDS))
        found[stage] = run(folder, *command)[0] - starts[module], starts[module]
    return found


def rows_of(
    first: float, again: float, repro: float, logging: float, stages: dict[str, tuple[float, float]]
) -> list[Row]:
    """Returns the rows of the table of goals; times in seconds."""
    compute = sum(own for own, _ in stages.values())
    training = sum(own for stage, (own, _) in stages.items() if stage.startswith("train@"))
    trainings = sum(stage.startswith("train@") for stage in stages)
    return [
        Row(
            "`make demo` after the installation",
            f"{first:.0f} s", f"at most {_FIRST:.0f} s", f"{first / _FIRST:.2f}", first <= _FIRST,
        ),
        Row("the same again", f"{again:.1f} s", f"at most {_AGAIN:.0f} s", f"{again / _AGAIN:.2f}", again <= _AGAIN),
        Row(
            f"`dvc repro` of the {len(stages)} stages after `embed`, one after another, against their compute",
            f"{repro:.0f} s, the compute {compute:.0f} s", f"at most {_COMPUTE}", f"{repro / compute:.2f}",
            repro <= _COMPUTE * compute,
        ),
        Row(
            f"MLflow: logging params and metrics of all runs, against the compute of {trainings} trainings",
            f"{logging:.1f} s, the trainings {training:.0f} s", f"at most {_LOGGING:.0%}", f"{logging / training:.1%}",
            logging <= _LOGGING * training,
        ),
    ]  # fmt: skip


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, required=True, help="new folder, which stays")
    parser.add_argument("--scenario", default="industrial", help="a simulated one")
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/performance.md gets the tables")
    given = parser.parse_args()
    folder, scenario = given.project.resolve(), given.scenario
    clone(folder)
    first, again = (run(folder, "isthmus", "run", scenario)[0] for _ in range(2))
    stages = commands(yaml.safe_load((folder / "dvc.lock").read_text()), scenario)
    logged = run(folder, sys.executable, "-c", _LOG, scenario, MLFLOW_TRACKING_URI=f"sqlite:///{folder}/bench.db")[1]
    each = compute_of(folder, stages)
    repro, _ = run(folder, "dvc", "repro", "-q", "-s", "-f", *stages)
    seconds = [(stage, f"{own:.1f}", f"{start:.1f}") for stage, (own, start) in each.items()]
    text = "\n\n".join(
        [
            f"{facts('dvc', 'prefect', 'mlflow', 'torch')} By the clock.",
            goals(rows_of(first, again, repro, float(logged.splitlines()[-1]), each)),
            table(("stage", "compute [s]", "start [s]"), *seconds),
        ]
    )
    print(text)
    if given.write:
        write_section(given.write / DOCUMENT, "demo", text)


if __name__ == "__main__":
    main()

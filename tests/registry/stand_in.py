"""The real HTTP side of `isthmus serve` before a process that does what a request says: sleep, end, fail.

python -m tests.registry.stand_in server PORT FOLDER LIMITS        python -m tests.registry.stand_in model FOLDER

A request's body is `{"sleep": seconds}`, `{"end": status}`, `{"fail": 1}` or `{}`; FOLDER/asked has a line
for each that was computed. A file FOLDER/unloadable makes the process end before it is loaded.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from isthmus.core.errors import StoreError
from isthmus.serving.batch_statistics import Batches
from isthmus.serving.guard import Guard
from isthmus.serving.model_process import LANES, ModelProcess
from isthmus.serving.prediction_process import own_output, read_ahead
from isthmus.serving.request_limits import Limits
from isthmus.serving.serving_process import read_request
from tests.pipelines.tiny_project import default_signals

ROW = {"class": "good", "probability_good": 0.75, "probability_pit": 0.25, "answered": True, "domain_score": 0.5}


@dataclass(frozen=True)
class StandIn:
    """A running server.

    Attributes:
        process: of it.
        port: where it listens.
        folder: statistics, `asked`, `log`.
    """

    process: "subprocess.Popen[bytes]"
    port: int
    folder: Path

    def children(self) -> list[int]:
        """Returns the process numbers of the model's process: one, or none."""
        return children_of(self.process.pid)

    def asked(self) -> list[str]:
        """Returns the bodies that were computed, in order."""
        return (self.folder / "asked").read_text().splitlines() if (self.folder / "asked").exists() else []

    def log(self) -> str:
        """Returns what the server wrote for its operator."""
        return (self.folder / "log").read_text()


def children_of(process: int) -> list[int]:
    """Returns the numbers of a process's children."""
    return [int(n) for n in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def alive(process: int) -> bool:
    """Returns whether a process runs: a zombie does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def running_stand_in(folder: Path, port: int, limits: Limits, *, loaded: bool = True) -> Iterator[StandIn]:
    """Starts the server, and ends it with its child."""
    command = [sys.executable, "-m", "tests.registry.stand_in", "server", str(port), str(folder)]
    folder.mkdir(exist_ok=True)
    with (folder / "log").open("wb") as log:
        command.append(json.dumps(asdict(limits)))
        process = subprocess.Popen(command, stderr=log, start_new_session=True, preexec_fn=default_signals)
    server = StandIn(process, port, folder)
    try:
        while loaded and "is loaded" not in server.log():
            assert process.poll() is None, server.log()
            time.sleep(0.02)
        yield server
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def _serve(port: str, folder: str, limits: str) -> None:
    from isthmus.serving.http_server import listen

    place, bounds = Path(folder), Limits(**json.loads(limits))
    command = [sys.executable, "-m", "tests.registry.stand_in", "model", folder]
    kept = Batches(place / "kept.jsonl", "m-1", "3")
    model = ModelProcess(command, bounds)
    try:
        listen(Guard(model, "stand-in version 3", bounds, kept), "127.0.0.1", int(port))
    except StoreError as error:
        raise SystemExit(f"error: {error}") from None


def _answer(folder: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers, asked = own_output(), read_ahead(read_request)
    if (Path(folder) / "unloadable").exists():
        raise SystemExit(9)
    answers.write('"ready"\n')

    def work() -> None:
        while True:
            number, body = asked.get()
            with (Path(folder) / "asked").open("ab") as log:
                log.write(body + b"\n")
            wanted = json.loads(body)
            time.sleep(wanted.get("sleep", 0))
            if "end" in wanted:
                os._exit(wanted["end"])
            found = (500, "the model failed") if "fail" in wanted else (200, [ROW])
            answers.write(json.dumps([number, *found]) + "\n")

    for _ in range(LANES - 1):
        threading.Thread(target=work, daemon=True).start()
    work()


if __name__ == "__main__":
    {"server": _serve, "model": _answer}[sys.argv[1]](*sys.argv[2:])

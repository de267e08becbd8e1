"""How long a client waits for `isthmus serve`, by the number of clients, and how much of it is the model.

python -m benchmarks.serving [MODEL@ALIAS] [--project FOLDER] [--images FOLDER] [--clients 1,4,16,64] [--seconds 20]
    [--write REPOSITORY]

The project has the model, such as after `make demo`. Each client sends one image, waits for the answer and
sends again, on a connection that it keeps. The model alone is MLflow's `predict` on the same bytes in a process of its
own, in the same environment, by turns with the server. 503 is counted apart: the server reports at once that it is
full, and the client repeats its request after `Retry-After`. Start-up is from the command to the first 200 of `/ping`.
Batches are those of `isthmus predict`, from the first answer on, by turns with decoding alone and the network alone.
"""

import argparse
import base64
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.performance import DOCUMENT, Row, facts, goals
from benchmarks.sections import table, write_section
from isthmus.core import plugins
from isthmus.registry.model.served import Predictor
from isthmus.registry.publish.model_reference import Address, resolve
from isthmus.registry.store.stores import open_store
from isthmus.registry.store.tracking import Store
from isthmus.serving.export import fetch_model
from isthmus.serving.predict import BATCH, answers, list_files, model_environment

_PAIRS = 30
_MODEL = 0.9  # [share] of the server's time for one image
_BATCH = 0.9  # [share] of the slower of decoding and network, that batches reach
_FILES = 512
_ALONE = """
import sys, time
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
images = pd.DataFrame({"image": [open(sys.argv[2], "rb").read()]})
for line in sys.stdin:
    start = time.perf_counter()
    model.predict(images)
    print(time.perf_counter() - start, flush=True)
"""


class Waited(NamedTuple):
    """What the clients of one round saw.

    Attributes:
        seconds: of each answer, sorted.
        refused: number of 503.
        rate: answers a second.
    """

    seconds: list[float]
    refused: int
    rate: float

    def at(self, share: float) -> float:
        """Returns the time that so large a share of answers took at most [ms]."""
        return 1000 * self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


def measured(port: int, body: bytes, clients: int, seconds: float) -> Waited:
    """Has so many clients ask for so long."""
    found: list[float] = []
    refused: list[int] = []
    end = time.monotonic() + seconds

    def ask() -> None:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        while True:
            start = time.perf_counter()
            line.request("POST", "/invocations", body, {"Content-Type": "application/json"})
            answer = line.getresponse()
            answer.read()
            if answer.status == 200:
                found.append(time.perf_counter() - start)
            else:
                refused.append(answer.status)
                time.sleep(float(answer.headers.get("Retry-After", 1)))
            if time.monotonic() >= end:
                break
        line.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Waited(sorted(found), len(refused), len(found) / (time.monotonic() - start))


@contextmanager
def serving(model: str, port: int) -> Iterator[float]:
    """Starts `isthmus serve` and yields the seconds until it can answer."""
    command = [sys.executable, "-m", "isthmus.cli", "serve", model, "--port", str(port)]
    start = time.monotonic()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while not _pings(port):
            if process.poll() is not None:
                raise SystemExit(f"isthmus serve {model} ended with status {process.returncode}")
            time.sleep(0.05)
        yield time.monotonic() - start
    finally:
        process.terminate()
        process.wait(60)


def _pings(port: int) -> bool:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        line.request("GET", "/ping")
        return line.getresponse().status == 200
    except OSError:
        return False
    finally:
        line.close()


def in_turns(tracking_uri: str, model_id: str, image: Path, port: int, body: bytes) -> tuple[float, float]:
    """Returns the medians of the model alone and of the server, one image each, measured in turns [ms]."""
    environment = model_environment(tracking_uri)
    command = [sys.executable, "-P", "-W", "ignore", "-c", _ALONE, f"models:/{model_id}", str(image)]
    pairs = []
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stdin and child.stdout
        for _ in range(_PAIRS + 2):  # the first two warm up
            child.stdin.write("\n")
            child.stdin.flush()
            alone = float(child.stdout.readline())
            pairs.append((alone, measured(port, body, 1, 0).seconds[0]))
        child.stdin.close()
    return 1000 * median(pair[0] for pair in pairs[2:]), 1000 * median(pair[1] for pair in pairs[2:])


def in_batches(store: Store, address: Address, files: list[Path], rounds: int = 3) -> dict[str, float]:
    """Returns images a second of decoding alone, of the network alone, and of batches from files: medians of rounds."""
    with tempfile.TemporaryDirectory() as folder:
        predictor = Predictor(fetch_model(store, address, Path(folder)))
    parts, answers_of = predictor.parts, plugins.load("registry.model.answers", predictor.parts.spec["task"]).Answers()
    batches = [files[first : first + BATCH] for first in range(0, len(files), BATCH)]
    found: dict[str, list[float]] = {"decoding": [], "network": [], "batches": []}
    for _ in range(rounds):
        start = time.perf_counter()
        prepared = [[predictor.prepared(path) for path in batch] for batch in batches]
        found["decoding"].append(len(files) / (time.perf_counter() - start))
        start = time.perf_counter()
        for batch in prepared:
            answers_of.answer(parts, batch, parts.target)
        found["network"].append(len(files) / (time.perf_counter() - start))
        answered = answers(store.uri, address, [*files[:BATCH], *files], "predict")
        next(answered)  # by then the model is loaded
        start = time.perf_counter()
        count = sum(len(rows) for rows, _ in answered)
        found["batches"].append(count / (time.perf_counter() - start))
    return {name: median(rates) for name, rates in found.items()}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="isthmus-industrial@candidate")
    parser.add_argument("--project", type=Path, default=Path(), help="with the model")
    parser.add_argument("--images", type=Path, default=Path("data/raw/industrial"), help="folder; the server gets one")
    parser.add_argument("--clients", default="1,4,16,64")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--write", type=Path, help="folder of the repository: docs/performance.md gets the tables")
    given = parser.parse_args()
    document = given.write and given.write.resolve() / DOCUMENT
    os.chdir(given.project)
    files = list_files([given.images]).files
    files = (files * -(-_FILES // len(files)))[:_FILES]
    image = files[0]
    store = open_store(Path.cwd())
    address = resolve(store, given.model)
    body = json.dumps({"dataframe_records": [{"image": base64.b64encode(image.read_bytes()).decode()}]}).encode()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with serving(given.model, port) as start:
        model, one = in_turns(store.uri, address.model_id, image, port, body)
        rounds = {count: measured(port, body, count, given.seconds) for count in map(int, given.clients.split(","))}
    rates = in_batches(store, address, files)
    floor = min(rates["decoding"], rates["network"])
    share = model / one
    rows = [
        Row(
            "one image by one client, of which the model alone",
            f"{one:.0f} ms",
            "at least 0.9",
            f"{share:.2f}",
            share >= _MODEL,
        ),
        Row(
            f"batches of {BATCH} files, against the slower of decoding ({rates['decoding']:.0f} images/s) and network"
            f" ({rates['network']:.0f})",
            f"{rates['batches']:.0f} images/s",
            f"at least {_BATCH}",
            f"{rates['batches'] / floor:.2f}",
            rates["batches"] >= _BATCH * floor,
        ),
    ]
    waits = [
        (
            str(count),
            *(f"{waited.at(share):.0f}" for share in (0.5, 0.95, 0.99)),
            f"{waited.rate:.1f}",
            str(waited.refused),
        )
        for count, waited in rounds.items()
    ]
    text = "\n\n".join(
        [
            f"{address.model}, an image of {image.stat().st_size} bytes. {facts('torch', 'timm', 'mlflow', 'uvicorn')}"
            f" Start-up of the server {start:.1f} s.",
            goals(rows),
            table(("clients", "p50 [ms]", "p95 [ms]", "p99 [ms]", "images/s", "503"), *waits),
        ]
    )
    print(text)
    if document:
        write_section(document, "serving", text)


if __name__ == "__main__":
    main()

"""Hostile requests to a served model with the shipped limits: what each gets, how long it takes, what it costs.

The tables are written to docs/reliability.md. No request may get a 5xx other than 503, see a path or a stack, or end a
process, and memory stays under what the limits allow.
"""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest

from isthmus.registry.publish.publish import publish
from isthmus.serving.request_limits import BODIES, CONNECTIONS, Limits
from tests.pipelines.tiny_project import wait_until
from tests.registry.asked_project import fill
from tests.registry.hostile_requests import (
    Case,
    asking,
    complaints,
    dicom_of,
    jpeg_of_scans,
    nifti_of,
    picture,
    png_of,
    post,
    sent,
    soak_cases,
    tiff_of,
)
from tests.registry.project_files import build_project
from tests.registry.stand_in import alive, children_of
from tests.servers import answers, free_port
from tests.soak.reliability import write_section

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]
LIMITS = Limits(body_seconds=5)
CLIENT = 1.0  # [MB] of buffers a connection
GOOD = post(asking(picture()))
TESTS = 4


class Served:
    """A real server and what it costs."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.process = process
        self.port = port
        self.child = children_of(process.pid)[0]
        self.before = self.memory()
        self.found: list[str] = []  # what each test adds to docs/reliability.md

    def memory(self) -> tuple[int, int]:
        """Returns the most that the server and the model's process have held so far [MB]."""
        return tuple(_peak(process) for process in (self.process.pid, *children_of(self.process.pid)[:1]))  # type: ignore[return-value]

    def ask(self) -> object:
        """Returns the answer to a good request."""
        status, answer = sent(self.port, Case("", [GOOD]))
        assert status == 200, answer
        return json.loads(answer.partition(b"\r\n\r\n")[2])

    def together(self, requests: list[list[bytes]]) -> Counter[int]:
        """Returns how often which status came when clients send all at once."""
        found: Counter[int] = Counter()

        def go(parts: list[bytes]) -> None:
            found[sent(self.port, Case("", parts), 200)[0]] += 1

        clients = [threading.Thread(target=go, args=(parts,)) for parts in requests]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        return found


def _counted(statuses: Counter[int]) -> str:
    return ", ".join(
        f"{status or 'closed'}: {count}" if len(statuses) > 1 else str(status or "closed")
        for status, count in sorted(statuses.items())
    )


def _peak(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("hostile")
    project, port = fill(build_project(folder / "project")), free_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        found = publish(project, "demo", "")
    command = [sys.executable, "-m", "isthmus.cli", "serve", f"{found.model}@candidate", "--port", str(port)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--max-body-seconds", str(LIMITS.body_seconds)], cwd=project, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/ping"), "the server", 240)
        running = Served(process, port)
        yield running
    finally:
        process.kill()
        process.wait(30)
    if len(running.found) == TESTS:  # each of them held
        write_section("Hostile requests", "\n\n".join(running.found))


def test_each_hostile_request_gets_what_is_right_and_the_next_one_its_answer(served):
    first, wrong = served.ask(), []
    rows: dict[str, list[tuple[int, float]]] = {}
    for case in soak_cases(LIMITS.images, LIMITS.megabytes, LIMITS.megapixels):
        start = time.monotonic()
        status, answer = sent(served.port, case)
        wrong += complaints(case, status, answer, told=("/tmp/", str(Path.home())))
        kind = re.sub(r"(mutated.*) \d+$", r"\1", case.name[:45])
        rows.setdefault(kind, []).append((status, time.monotonic() - start))

    assert wrong == []
    wait_until(lambda: sent(served.port, Case("", [GOOD]))[0] == 200, "the model", 240)
    assert served.ask() == first
    lines = [
        f"| {name} | {_counted(Counter(status for status, _ in found))} | {max(seconds for _, seconds in found):.1f} |"
        for name, found in rows.items()
    ]
    front, child = served.memory()
    served.found.append(
        f"{sum(map(len, rows.values()))} requests, one after another, with the shipped limits but `--max-body-seconds"
        f" {LIMITS.body_seconds}`. Most memory: server {front} MB ({served.before[0]} at the start), model's process"
        f" {child} MB ({served.before[1]} at the start).\n\n| request | status | longest [s] |\n| --- | --- | --- |\n"
        + "\n".join(lines)
    )


def test_many_hostile_clients_at_once_are_answered_or_told_to_wait_and_memory_stays_bounded(served):
    first, size = served.ask(), LIMITS.body
    side = int((LIMITS.megapixels * 1_000_000) ** 0.5)
    unfinished = [post(b"0" * (size - 1000), length=size)]
    single = asking(*[png_of(1, 1)] * 500)
    largest = post(asking(png_of(side, side)))
    rows: dict[str, tuple[list[list[bytes]], set[int]]] = {
        "20 unfinished bodies": ([unfinished] * 20, {408, 503}),
        "60 whole bodies of no JSON": ([[post(b"0" * size)]] * 60, {400, 408, 503}),
        "six PNG bombs": ([[post(asking(png_of(13_000, 13_000)))]] * 6, {413}),
        "40 largest pictures": ([[largest]] * 40, {200, 503}),
        "500 one-pixel PNGs, ten times": ([[post(single)]] * 10, {413}),
        "30 requests of 64 images": ([[post(asking(*[picture(400, 400, "JPEG")] * 64))]] * 30, {200, 503}),
        "20 JPEGs of 90 passes": ([[post(asking(jpeg_of_scans(3000, 3000, 80)))]] * 20, {200, 503}),
        "40 headers that lie": (
            [[post(asking(data))] for data in (tiff_of(60_000, 60_000), nifti_of(9000, 9000, 9000))] * 10
            + [[post(asking(dicom_of(60_000, 60_000)))]] * 20, {413, 503},
        ),
        "100 heads that do not end": ([[b"POST /invocations HTTP/1.1\r\nHost: x\r\n"]] * 100, {0}),
        "60 good requests": ([[GOOD]] * 60, {200, 503}),
        "bodies of one-byte chunks": (
            [[post(b"1\r\n0\r\n" * 200_000, "application/json", "Transfer-Encoding: chunked")]] * 8, {400, 408, 503},
        ),
    }  # fmt: skip
    wrong = []
    lines = [
        "| at once | statuses | seconds | most memory so far, server and model [MB] |",
        "| --- | --- | --- | --- |",
    ]
    for name, (requests, allowed) in rows.items():
        start = time.monotonic()
        found = served.together(requests)
        seconds = time.monotonic() - start
        wait_until(lambda: sent(served.port, Case("", [GOOD]))[0] == 200, "the model", 240)
        front, child = served.memory()
        lines.append(f"| {name} | {_counted(found)} | {seconds:.1f} | {front}, {child} |")
        if not set(found) <= allowed:
            wrong.append(f"{name}: {dict(found)}")
        if front > served.before[0] + 2 * BODIES * LIMITS.megabytes + CLIENT * CONNECTIONS:
            wrong.append(f"{name}: the server holds {front} MB, {served.before[0]} at the start")
        if child > served.before[1] + LIMITS.memory:
            wrong.append(f"{name}: the model's process holds {child} MB, {served.before[1]} at the start")

    assert wrong == []
    assert served.ask() == first
    served.found.append("\n".join(lines))


def test_clients_that_leave_or_hold_connections_stop_nobody_for_long(served):
    first = served.ask()
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", served.port), 30) as line:
            line.sendall(post(asking(*[picture(400, 400, "JPEG")] * 64)))
    start = time.monotonic()
    wait_until(lambda: sent(served.port, Case("", [GOOD]))[0] == 200, "an answer after 100 that left", 120)
    left = time.monotonic() - start
    with ExitStack() as lines:
        for _ in range(CONNECTIONS + 50):
            line = lines.enter_context(socket.create_connection(("127.0.0.1", served.port), 30))
            line.sendall(b"P")
        wait_until(lambda: sent(served.port, Case("", [GOOD]))[0] == 200, "room", 3 * LIMITS.body_seconds)

    assert served.ask() == first
    served.found.append(
        f"After 100 clients that left at once the next one was answered within {left:.1f} s. Of {CONNECTIONS + 50}"
        f" connections that send one byte the server keeps {CONNECTIONS}, each for {LIMITS.body_seconds} s."
    )


def test_a_served_model_that_is_busy_ends_with_its_server(served):
    children = children_of(served.process.pid)
    busy = [post(asking(*[picture(400, 400, "JPEG")] * 64))]
    clients = [threading.Thread(target=lambda: sent(served.port, Case("", busy))) for _ in range(8)]
    for client in clients:
        client.start()
    time.sleep(1)
    start = time.monotonic()

    served.process.send_signal(signal.SIGTERM)
    served.process.wait(30)

    seconds = time.monotonic() - start
    assert seconds < 5
    assert [alive(child) for child in children] == [False]
    for client in clients:
        client.join()
    served.found.append(f"With eight requests of 64 images under way the server ended {seconds:.1f} s after SIGTERM.")

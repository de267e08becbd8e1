"""What the server does with requests, whatever model is behind it: real HTTP, a stand-in for the model's process."""

import http.client
import json
import os
import re
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from isthmus.serving.batch_statistics import read_kept
from isthmus.serving.model_process import LANES
from isthmus.serving.request_limits import BODIES, CONNECTIONS, Limits
from tests.browser import CHROMIUM, browser
from tests.pipelines.tiny_project import wait_until
from tests.registry.hostile_requests import Case, post, sent
from tests.registry.stand_in import ROW, alive, running_stand_in
from tests.require import require
from tests.servers import free_port

LIMITS = Limits(megabytes=1, images=4, waiting=2, seconds=2, body_seconds=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_stand_in(tmp_path_factory.mktemp("server"), free_port(), LIMITS) as running:
        yield running


@contextmanager
def stand_in(folder: Path, **limits):
    with running_stand_in(folder, free_port(), Limits(**limits)) as running:
        yield running


def ask(server, body=b"{}", method="POST", path="/invocations", **headers):
    """Returns status, headers and text of one request."""
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    line.request(method, path, body, {"Content-Type": "application/json"} | headers)
    answer = line.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read().decode()
    line.close()
    return found


def test_a_request_gets_the_models_answer_and_is_counted(server):
    before = len(server.asked())

    status, headers, text = ask(server)

    assert (status, json.loads(text)) == (200, {"predictions": [ROW]})
    assert headers["content-type"] == "application/json"
    assert "server" not in {name.lower() for name in headers}
    assert len(server.asked()) == before + 1


def test_the_pages_answer_and_name_no_other_host(server):
    for path in ("/ping", "/health"):
        assert ask(server, None, "GET", path)[::2] == (200, "\n")
    assert re.fullmatch(r"[0-9.]+", ask(server, None, "GET", "/version")[2])
    assert ask(server, None, "HEAD", "/ping")[::2] == (200, "")
    for path in ("/", "/docs"):
        status, headers, text = ask(server, None, "GET", path)
        assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "stand-in version 3" in text
        assert not re.search(r"src=|href=|url\(|@import|https?:|<script|<link|<img", text)


@pytest.mark.slow
@pytest.mark.soak
def test_a_browser_asks_nobody_else_for_the_documentation_page(server, tmp_path):
    require("chromium", CHROMIUM is not None)
    with browser(tmp_path / "profile") as page:
        page.open(f"http://127.0.0.1:{server.port}/docs")

        asked = [address for address in page.requests if not address.endswith("/favicon.ico")]

        assert asked == [f"http://127.0.0.1:{server.port}/docs"]
        assert "POST /invocations" in page.text()


@pytest.mark.parametrize("method", ["PUT", "DELETE", "TRACE", "PATCH", "OPTIONS", "HEAD", "GET", "MKCOL"])
def test_another_method_is_405_with_the_right_one(server, method):
    status, headers, text = ask(server, None, method)

    assert (status, headers["allow"]) == (405, "POST")
    assert text == ("" if method == "HEAD" else f'{{"error": "{method} is not allowed here. Allowed: POST"}}')


@pytest.mark.parametrize(
    ("path", "method", "status", "message"),
    [
        ("/ping", "POST", 405, "POST is not allowed here. Allowed: GET, HEAD"),
        ("/invocations/", "POST", 404, "no such page. There are: /, /docs, /ping, /health, /version, /invocations"),
        ("/openapi.json", "GET", 404, "no such page"),
        ("/../../../etc/passwd", "GET", 404, "no such page"),
    ],
)
def test_another_page_is_404_and_nothing_is_redirected(server, path, method, status, message):
    found, headers, text = ask(server, None, method, path)

    assert found == status
    assert message in text
    assert "location" not in headers


@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        ({"Content-Type": "text/csv"}, 415, "content type 'text/csv'. Send application/json, in UTF-8"),
        ({"Content-Type": ""}, 415, "content type 'none'. Send application/json"),
        ({"Content-Type": "application/json; charset=utf-16"}, 415, "content type 'application/json; charset=utf-16'"),
        ({"Content-Type": 'Application/JSON ; Charset="UTF-8"'}, 200, "predictions"),
        ({"Content-Type": "application/json; odata=verbose"}, 200, "predictions"),
        ({"Content-Encoding": "gzip"}, 415, "content encoding 'gzip'. Send the body as it is"),
        ({"Content-Encoding": "identity"}, 200, "predictions"),
        ({"Content-Length": "1000001"}, 413, "the request is larger than 1000000 bytes. Send fewer or smaller images"),
    ],
)
def test_what_the_head_says_of_the_body_is_checked(server, headers, status, message):
    found, _, text = ask(server, b"{}", **headers)

    assert found == status
    assert message in text


def test_more_images_than_allowed_and_a_larger_body_are_413_before_the_model_sees_them(server):
    before = len(server.asked())
    many = ask(server, json.dumps({"dataframe_records": [{"image": ""}] * 5}).encode())
    chunked = sent(
        server.port,
        Case("", [post(b"", "application/json", "Transfer-Encoding: chunked"), b"f4241\r\n" + b"0" * 1_000_001]),
    )

    assert many[0] == 413
    assert "5 images, or not of the documented shape. Allowed: 4 a request" in many[2]
    assert chunked[0] == 413
    assert len(server.asked()) == before


def test_a_client_that_sends_on_sees_why_it_was_refused(server):
    whole = post(b"0" * 8_000_000)  # more than a connection holds by itself

    assert [sent(server.port, Case("", [whole]))[0] for _ in range(3)] == [413] * 3
    assert sent(server.port, Case("", [whole.replace(b"/invocations", b"/else")]))[0] == 404


def test_a_client_that_asks_first_is_refused_before_it_sends(server):
    head = post(b"", "application/json", "Expect: 100-continue", length=8_000_000)

    status, answer = sent(server.port, Case("", [head]))

    assert (status, b"100 Continue" in answer) == (413, False)


def test_statistics_that_cannot_be_written_stop_no_answer(tmp_path):
    with stand_in(tmp_path) as server:
        (tmp_path / "kept.jsonl").mkdir()

        assert {ask(server)[0] for _ in range(33)} == {200}
        assert "statistics of 32 images are lost: " in server.log()


def test_a_model_that_fails_is_500_without_its_stack(server):
    assert ask(server, b'{"fail": 1}')[::2] == (500, '{"error": "the model failed"}')


@pytest.mark.slow
def test_a_body_and_a_head_that_do_not_come_are_not_waited_for(server):
    cases = [
        Case("body", [post(b"{", length=9)]),
        Case("head", [b"POST /invocations HTTP/1.1\r\n", b"a: b"]),
        Case("nothing", [b""]),
        Case("after an answer", [post(b"{}").replace(b"Connection: close\r\n", b""), b"POST"], pause=0.3),
    ]
    start = time.monotonic()
    with ThreadPoolExecutor(len(cases)) as clients:
        found = list(clients.map(lambda case: sent(server.port, case), cases))  # each ends with its connection

    assert time.monotonic() - start < 5
    assert [status for status, _ in found] == [408, 0, 0, 200]
    assert b"the body did not arrive within 1 s. Send fewer or smaller images" in found[0][1]


@pytest.mark.slow
def test_a_client_that_does_not_read_is_cut_off(server):
    sockets = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
    with socket.create_connection(("127.0.0.1", server.port), 1) as line:
        with pytest.raises(OSError):  # nothing goes in where nothing is read
            for _ in range(10_000):
                line.sendall(b"GET /docs HTTP/1.1\r\nHost: x\r\n\r\n" * 100)

        wait_until(lambda: len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) == sockets, "its end", 15)


def test_what_is_no_http_is_400_in_json(server):
    status, answer = sent(server.port, Case("", [b"\x16\x03\x01\x00\xf4\r\n\r\n"]))

    assert status == 400
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"error": "no request of HTTP/1.1"}


def test_requests_in_one_write_are_answered_in_their_order(server):
    kept = post(b"{}").replace(b"Connection: close\r\n", b"")

    _, answer = sent(server.port, Case("", [kept + kept.replace(b"POST", b"PUT") + post(b"{}")]))

    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"405", b"200"]


def test_one_connection_too_many_is_503_and_those_of_before_go_on(server):
    with ExitStack() as lines:
        first = lines.enter_context(socket.create_connection(("127.0.0.1", server.port), 30))
        first.sendall(post(b'{"sleep": 0.5}'))
        for _ in range(CONNECTIONS - 1):
            lines.enter_context(socket.create_connection(("127.0.0.1", server.port), 30))
        status, refused = sent(server.port, Case("", [post(b"{}")]))
        answer = first.recv(65_536)

    assert status == 503
    assert b"\r\nretry-after: 1\r\n" in refused
    assert json.loads(refused.partition(b"\r\n\r\n")[2]) == {"error": "too many connections. Try again"}
    assert answer.startswith(b"HTTP/1.1 200")
    wait_until(lambda: ask(server)[0] == 200, "room for new clients")


@contextmanager
def busy(server, seconds=1.0):
    """Keeps the model's process busy with as many requests as it takes at once."""
    before = len(server.asked())
    body = json.dumps({"sleep": seconds}).encode()
    clients = [threading.Thread(target=ask, args=(server, body)) for _ in range(LANES)]
    for client in clients:
        client.start()
    wait_until(lambda: len(server.asked()) == before + LANES, "the first requests")
    yield
    for client in clients:
        client.join()


def test_requests_beyond_the_queue_are_503_at_once_and_those_in_it_are_answered(tmp_path):
    with stand_in(tmp_path, waiting=2, seconds=30) as server:
        late = []
        with busy(server):
            start = time.monotonic()
            clients = [
                threading.Thread(target=lambda: late.append((*ask(server), time.monotonic() - start))) for _ in range(6)
            ]
            for client in clients:
                client.start()
            for client in clients:
                client.join()

    refused = [answer for answer in late if answer[0] == 503]
    assert (len(refused), [a[0] for a in late].count(200)) == (4, 2)
    assert all(answer[1]["retry-after"] == "1" for answer in refused)
    assert all("2 requests are waiting already. Try again" in answer[2] for answer in refused)
    assert max(answer[3] for answer in refused) < 0.9  # before the first was done


def test_an_answer_that_takes_too_long_is_stopped_and_the_next_request_is_answered(tmp_path):
    with stand_in(tmp_path, seconds=1) as server:
        (first,) = server.children()
        status, headers, text = ask(server, b'{"sleep": 60}')
        wait_until(lambda: server.children() not in ([], [first]), "another process", 60)
        wait_until(lambda: ask(server)[0] == 200, "the model again", 60)

        assert (status, headers["retry-after"]) == (503, "5")
        assert "no answer within 1 s. Try again" in text or "took longer than 1 s and was stopped" in text
        assert not alive(first)


def test_a_process_that_ends_is_started_again_and_pings_say_so(tmp_path):
    with stand_in(tmp_path, seconds=30) as server:
        status, headers, text = ask(server, b'{"end": 139}')
        wait_until(lambda: ask(server)[0] == 200, "the model again", 60)
        (child,) = server.children()
        os.kill(child, signal.SIGKILL)  # while nobody asks, as the system does that is short of memory
        wait_until(lambda: ask(server, None, "GET", "/ping")[0] == 503, "the server's word that the model is gone")
        loading = ask(server)
        wait_until(lambda: ask(server, None, "GET", "/ping")[0] == 200, "the model again", 60)

        assert (status, headers["retry-after"]) == (503, "5")
        assert "ended the model's process, which is started again. Send fewer or smaller images" in text
        assert loading[0] in (200, 503)
        assert server.log().count("the model's process is started again") == 2


def test_nobody_computes_for_a_client_that_has_left(tmp_path):
    with stand_in(tmp_path, waiting=8, seconds=30) as server:
        with busy(server):
            for _ in range(4):
                with socket.create_connection(("127.0.0.1", server.port), 30) as line:
                    line.sendall(post(b'{"sleep": 9}'))
                    time.sleep(0.1)

        assert ask(server)[0] == 200
        assert server.asked() == ['{"sleep": 1.0}'] * LANES + ["{}"]


@pytest.mark.slow
def test_whoever_waits_too_long_is_told_and_nothing_is_computed_for_it(tmp_path):
    with stand_in(tmp_path, seconds=2) as server:
        with busy(server, 1.5):
            waiting = [threading.Thread(target=ask, args=(server, b'{"sleep": 1.5}')) for _ in range(LANES)]
            for client in waiting:
                client.start()
            time.sleep(0.05)
            status, headers, text = ask(server, b'{"late": 1}')
        for client in waiting:
            client.join()

        assert (status, headers["retry-after"]) == (503, "5")
        assert "no answer within 2 s. Try again" in text
        assert '{"late": 1}' not in server.asked()


@pytest.mark.slow
def test_as_many_requests_are_computed_at_once_as_there_are_processors_and_the_rest_in_their_order(tmp_path):
    with stand_in(tmp_path, seconds=30) as server:
        clients = []
        for number in range(2 * LANES):
            body = json.dumps({"sleep": 0.8, "number": number}).encode()
            clients.append(threading.Thread(target=ask, args=(server, body)))
            clients[-1].start()
            time.sleep(0.05)
        time.sleep(0.2)
        first = server.asked()
        for client in clients:
            client.join()

        assert [json.loads(body)["number"] for body in first] == list(range(LANES))
        assert [json.loads(body)["number"] for body in server.asked()] == list(range(2 * LANES))


def test_bodies_of_all_requests_together_are_bounded(tmp_path):
    with stand_in(tmp_path, megabytes=1, body_seconds=20) as server, ExitStack() as stack:
        first, rest = b" " * 900_000, b" " * 99_998 + b"{}"
        lines = []
        for _ in range(BODIES + 3):
            lines.append(stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 30)))
            lines[-1].sendall(post(first, length=1_000_000))
            time.sleep(0.1)  # so that it has come before the next
        for line in lines:
            line.sendall(rest)
        answers = [b"".join(iter(lambda line=line: line.recv(65_536), b"")) for line in lines]

    assert [int(answer.split()[1]) for answer in answers] == [200] * BODIES + [503] * 3
    assert all(b"retry-after: 1" in answer for answer in answers[BODIES:])
    assert b"too many requests at once. Try again" in answers[-1]


def test_a_body_that_ends_with_its_connection_is_forgotten(tmp_path):
    with stand_in(tmp_path, megabytes=1, body_seconds=20) as server:
        for _ in range(3 * BODIES):
            with socket.create_connection(("127.0.0.1", server.port), 30) as line:
                line.sendall(post(b"0" * 900_000, length=1_000_000))

        assert ask(server)[0] == 200


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_busy_server_ends_within_five_seconds_and_writes_its_statistics(tmp_path, how):
    with stand_in(tmp_path, seconds=60) as server:
        assert ask(server)[0] == 200
        children, answers = server.children(), []
        waiting = threading.Thread(target=lambda: answers.append(ask(server, b'{"sleep": 30}')))
        waiting.start()
        slow = socket.create_connection(("127.0.0.1", server.port), 30)
        slow.sendall(post(b"{", length=900))
        wait_until(lambda: len(server.asked()) == 2, "the long request")
        start = time.monotonic()

        server.process.send_signal(how)
        server.process.wait(30)

        assert time.monotonic() - start < 5
        waiting.join()
        slow.close()
        assert [alive(child) for child in children] == [False]
        assert (answers[0][0], answers[0][2]) == (503, '{"error": "the server is being stopped"}')
        assert server.process.returncode == (0 if how == signal.SIGINT else -signal.SIGTERM)
        assert "Traceback" not in server.log()
        assert [batch.count for batch in read_kept(tmp_path / "kept.jsonl")] == [1]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGHUP])
def test_no_child_outlives_a_server_that_is_killed_while_busy(tmp_path, how):
    with stand_in(tmp_path, seconds=60) as server:
        (child,) = server.children()
        with socket.create_connection(("127.0.0.1", server.port), 30) as line:
            line.sendall(post(b'{"sleep": 30}'))
            wait_until(server.asked, "the long request")

            server.process.send_signal(how)
            server.process.wait(30)

            wait_until(lambda: not alive(child), "the end of the model's process", 5)


def test_a_model_that_cannot_be_loaded_ends_the_server_with_its_reason(tmp_path):
    (tmp_path / "unloadable").write_text("")
    with running_stand_in(tmp_path, free_port(), Limits(), loaded=False) as server:
        assert server.process.wait(30) == 1

        assert "error: stand-in version 3: its process ended with status 9 while it was loaded" in server.log()

"""The scoring server as a client meets it: a real one on loopback, started by the command."""

import base64
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
from PIL import Image as Pillow

from isthmus.core.errors import ConfigError
from isthmus.registry.aggregates import Aggregates, read_aggregates
from isthmus.registry.batch_statistics import read_kept
from isthmus.registry.serve import kept_path, serve, statistics_path
from isthmus.registry.serving_process import RefusedError, check_request, refusal_of
from tests.pipelines.tiny_project import REPOSITORY, wait_until
from tests.registry.project_files import CLASSES, MLFLOW_ON_PANDAS_3
from tests.registry.test_served import as_the_pipeline
from tests.registry.versions import MODEL, add_version
from tests.require import require
from tests.servers import answers, free_port

pytestmark = MLFLOW_ON_PANDAS_3


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (30, 24, 3)).astype(np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def ask(port, body, content_type="application/json"):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def records(*images):
    return json.dumps({"dataframe_records": [{"image": base64.b64encode(i).decode()} for i in images]}).encode()


@pytest.mark.slow
def test_a_server_answers_the_documented_request_refuses_what_is_wrong_and_counts(published, picture, tmp_path):
    require("curl", shutil.which("curl") is not None)
    project, found = published
    port = free_port()
    command = [sys.executable, "-m", "isthmus.cli", "serve", f"{found.model}@candidate", "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([*command, "--max-megabytes", "1"], cwd=project, stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/ping"), "the scoring server", 240)
        example = re.findall(r"```bash\n(.*?)```", (REPOSITORY / "docs" / "serving.md").read_text(), re.DOTALL)[0]
        shell = ["bash", "-c", example.replace(":8000/", f":{port}/")]
        said = subprocess.run(shell, cwd=picture.parent, capture_output=True, text=True, check=True).stdout
        row = json.loads(said)["predictions"][0]
        two = ask(port, records(picture.read_bytes(), picture.read_bytes()))
        broken = ask(port, records(picture.read_bytes(), b"no image"))
        large = ask(port, records(b"0" * 1_000_000))
        curl = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Transfer-Encoding: chunked"]
        curl += ["-T", "/dev/zero", "-X", "POST", f"http://127.0.0.1:{port}/invocations"]
        endless = subprocess.run(curl, capture_output=True, text=True, timeout=60).stdout
        path = ask(port, b'{"dataframe_records": [{"image": "/etc/hostname"}]}')
        table = ask(port, b"image\n/etc/hostname\n", "text/csv")
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)

    expected = as_the_pipeline(project, picture, tmp_path)
    assert [row[f"probability_{name}"] for name in CLASSES] == pytest.approx(expected, abs=1e-5)
    assert (two[0], two[1]["predictions"][1]["class"]) == (200, row["class"])
    assert broken[0] == 400
    assert broken[1]["error"].startswith("image 1: 8 bytes beginning with b'no image' are no image file")
    assert large == (413, {"error": "the request is larger than 1000000 bytes. Send fewer or smaller images"})
    assert endless == "413"
    assert (path[0], table[0]) == (400, 415)
    assert "image 0:" in path[1]["error"]
    assert not any("Traceback" in json.dumps(answer[1]) for answer in (broken, large, path, table))
    kept = read_aggregates(statistics_path(project, found.model_id, port))
    assert (kept.count, kept.refused, kept.classes) == (3, 5, {row["class"]: 3})
    batches = list(read_kept(kept_path(project, found.model_id)))  # fewer than 32: written when the server ended
    assert [(batch.count, batch.model_id, batch.version) for batch in batches] == [(3, found.model_id, found.version)]
    assert sum(batches[0].domain_score) == 3
    assert kept.confidence[int(max(expected) * 20)] == 3
    assert kept.moments["confidence"].mean == pytest.approx(max(expected), abs=1e-5)
    assert kept.moments["confidence"].squares == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("content_type", "body", "status", "message"),
    [
        ("text/csv", b"image", 415, "content type 'text/csv'. Send "),
        ("", b"{}", 415, "content type 'none'"),
        ("application/json", b"{", 400, "not JSON .*Send"),
        ("application/json", b"[]", 400, "not of the documented shape"),
        ("application/json", b'{"dataframe_records": []}', 400, "not of the documented shape"),
        (
            "application/json",
            b'{"dataframe_records": [{"image": "aa=="}, {"picture": "aa=="}]}',
            400,
            "documented shape",
        ),
        (
            "application/json",
            b'{"dataframe_records": [{"image": "aa=="}, {"image": "a b"}]}',
            400,
            "image 1: not base64",
        ),
        ("application/json", b'{"dataframe_records": [{"image": 7}]}', 400, "image 0: not base64"),
    ],
)
def test_a_request_of_another_shape_is_refused(content_type, body, status, message):
    with pytest.raises(RefusedError, match=message) as raised:
        check_request(content_type, body)
    assert raised.value.status == status


def test_a_failure_of_the_model_shows_no_stack_to_the_client(capfd):
    inside = json.dumps({"message": "x", "stack_trace": "Traceback ...\nKeyError: 'secret'"}).encode()

    error = refusal_of(400, inside)

    assert (error.status, str(error)) == (500, "the model failed; the server's log says why")
    assert "KeyError: 'secret'" in capfd.readouterr().err


def test_a_port_that_is_taken_is_named(empty_files):
    add_version(empty_files)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"--port {port}: Address already in use. Name a free one with --port"):
            serve(empty_files, f"{MODEL}@candidate", "127.0.0.1", port, 1)


def test_aggregates_come_back_from_their_file_as_they_were_and_equal_numpys_moments(tmp_path):
    values = np.random.default_rng(0).uniform(0.5, 1, 50)
    seen = Aggregates()
    seen.add([{"class": "a", "probability_a": v, "probability_b": 1 - v, "domain_score": v * 2} for v in values])

    seen.write(tmp_path / "deep" / "kept.json")

    assert read_aggregates(tmp_path / "deep" / "kept.json") == seen
    assert read_aggregates(tmp_path / "none.json") == Aggregates()
    assert seen.moments["domain_score"].mean == pytest.approx(2 * values.mean())
    assert seen.moments["domain_score"].squares / 50 == pytest.approx((2 * values).var())
    assert seen.confidence == np.histogram(values, 20, (0, 1))[0].tolist()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["kept.json"]

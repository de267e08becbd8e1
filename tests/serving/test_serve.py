"""The scoring server as a client meets it: a real one on loopback, started by the command."""

import base64
import codecs
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import numpy as np
import pytest
from PIL import Image as Pillow
from typer.testing import CliRunner

from isthmus.cli import app
from isthmus.core.errors import ConfigError, DataError
from isthmus.serving.batch_statistics import read_kept
from isthmus.serving.request_limits import Limits
from isthmus.serving.serve import kept_path, serve
from isthmus.serving.serving_process import RefusedError, Worker, checked, refusal
from tests.pipelines.tiny_project import REPOSITORY, wait_until
from tests.registry.hostile_requests import Case, asking, complaints, key_cases, png_of, post, sent
from tests.registry.hostile_requests import picture as picture_of
from tests.registry.model.test_served import as_the_pipeline
from tests.registry.project_files import CLASSES
from tests.registry.stand_in import alive, children_of
from tests.registry.versions import MODEL, add_version
from tests.require import require
from tests.servers import answers, free_port


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (30, 24, 3)).astype(np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def ask(port, body):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())["predictions"]


@pytest.mark.slow
def test_a_server_answers_the_documented_request_refuses_hostile_ones_and_counts(published, picture, tmp_path):
    require("curl", shutil.which("curl") is not None)
    project, found = published
    port = free_port()
    command = [sys.executable, "-m", "isthmus.cli", "serve", f"{found.model}@candidate", "--port", str(port)]
    command += ["--max-megabytes", "1", "--max-images", "8", "--max-megapixels", "1", "--max-body-seconds", "2"]
    cases = list(key_cases(images=8, megabytes=1, megapixels=1))
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=project, stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/ping"), "the scoring server", 240)
        example = re.findall(r"```bash\n(.*?)```", (REPOSITORY / "docs" / "serving.md").read_text(), re.DOTALL)[0]
        shell = ["bash", "-c", example.replace(":8000/", f":{port}/")]
        said = subprocess.run(shell, cwd=picture.parent, capture_output=True, text=True, check=True).stdout
        row = json.loads(said)["predictions"][0]
        wrong = [what for case in cases for what in complaints(case, *sent(port, case), told=(str(project), "/tmp/"))]
        two = ask(port, asking(picture.read_bytes(), picture.read_bytes()))
        children = children_of(server.pid)
        busy = threading.Thread(target=lambda: sent(port, Case("", [post(asking(*[png_of(1000, 125)] * 8))])))
        busy.start()
    finally:
        start = time.monotonic()
        server.send_signal(signal.SIGINT)
        server.wait(60)
        ended = time.monotonic() - start

    busy.join()
    expected = as_the_pipeline(project, picture, tmp_path)
    assert [row[f"probability_{name}"] for name in CLASSES] == pytest.approx(expected, abs=1e-5)
    assert [list(one) for one in two] == [list(row)] * 2
    assert [[one[f"probability_{name}"] for name in CLASSES] for one in two] == [pytest.approx(expected, abs=1e-5)] * 2
    assert wrong == []
    assert ended < 5
    assert [alive(child) for child in children] == [False]  # the one that was there at the start: none ended
    assert "is started again" not in (tmp_path / "log").read_text()
    (kept,) = read_kept(kept_path(project, found.model_id))  # fewer than 32: written when the server ended
    assert (kept.model_id, kept.version) == (found.model_id, found.version)
    assert sum(kept.domain_score) == kept.count
    assert kept.count in (3, 11)  # whether the last request was answered


@pytest.mark.slow
def test_an_answer_is_that_of_mlflows_scoring_server_and_that_of_many_at_once(published, picture, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", published[1].tracking_uri)
    import mlflow  # here, for its import warns unless `registry/model/served.py` was there first
    from mlflow.pyfunc import scoring_server

    model = mlflow.pyfunc.load_model(f"models:/{published[1].model_id}")
    worker = Worker(model, images=3, pixels=10_000)
    good, other = picture.read_bytes(), picture_of(40, 20)
    bodies = [asking(good), asking(other, good), asking(other, b"no image"), asking(png_of(200, 200)), b"{"]

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(worker.answer, bodies * 10))

    assert [status for status, _ in found] == [200, 200, 400, 413, 400] * 10
    assert found[3][1].startswith("image 0: the images of a request may have 10000 pixels together; 10000 of them are")
    assert found[2][1].startswith("image 1: 8 bytes beginning with b'no image' are no image file")
    for body, (_, rows), (_, again) in zip(bodies[:2], found[:2], found[-5:-3], strict=True):
        server_itself = scoring_server.invocations(body, "application/json", model, model.metadata.get_input_schema())
        for row, one, same in zip(rows, json.loads(server_itself.response)["predictions"], again, strict=True):
            assert [row[key] for key in one] == [pytest.approx(one[key], abs=1e-6) for key in one]
            assert [same[key] for key in one] == [pytest.approx(one[key], abs=1e-6) for key in one]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "not JSON .*Send"),
        (b"9" * 10_000, 400, "not JSON .*4300 digits.*Send"),
        (b"[]", 400, "not of the documented shape"),
        (b"[" * 7, 400, "not JSON"),
        (b"[" * 8, 400, "not of the documented shape"),
        ('{"dataframe_records": "ä"}'.encode(), 400, "not of the documented shape"),
        (b'{"dataframe_records": []}', 400, "not of the documented shape"),
        (b'{"dataframe_records": [{"image": "aa=="}, {"picture": "aa=="}]}', 400, "not of the documented shape"),
        (b'{"dataframe_records": [{"image": "aa=="}, {"image": "a b"}]}', 400, "image 1: not base64"),
        (b'{"dataframe_records": [{"image": 7}]}', 400, "image 0: not base64"),
        (b'{"dataframe_records": [{"image": NaN}]}', 400, "image 0: not base64"),
    ],
)
def test_a_request_of_another_shape_is_refused_before_an_image_is_decoded(body, status, message):
    with pytest.raises(RefusedError, match=message) as raised:
        checked(body, images=3, inputs=["image"])
    assert raised.value.args[0] == status


def test_deep_json_is_refused_where_many_images_are_allowed():
    with pytest.raises(RefusedError, match="not JSON .*recursion"):
        checked(b"[" * 20_000, images=10_000, inputs=["image"])


@pytest.mark.parametrize("start", [b"", codecs.BOM_UTF8])
def test_what_json_writers_of_other_languages_do_is_taken(start):
    image = base64.b64encode(png_of(9, 9)).decode()
    escaped = "".join("\\u002B" if c == "+" else "\\/" if c == "/" else c for c in image)  # .NET and PHP

    body = start + b'\r\n{ "dataframe_records" :\t[ {"image": "' + escaped.encode() + b'"} ] }\n'

    assert checked(body, images=3, inputs=["image"]) == [{"image": image}]


def test_a_model_of_two_dates_is_asked_with_both_images_in_any_order():
    pair = {"image_b": "bb==", "image": "aa=="}
    body = json.dumps({"dataframe_records": [pair, pair]}).encode()
    inputs = ["image", "image_b"]

    assert checked(body, images=4, inputs=inputs) == [pair, pair]
    with pytest.raises(RefusedError, match="not of the documented shape"):
        checked(body, images=3, inputs=inputs)  # two pairs are four images
    with pytest.raises(RefusedError, match='Send .*"image": "<base64 of an image file>", "image_b"'):
        checked(b'{"dataframe_records": [{"image": "aa=="}]}', images=4, inputs=inputs)


def test_a_failure_of_the_model_shows_no_stack_to_the_client(capfd):
    try:
        raise RuntimeError("outer") from KeyError("secret")
    except RuntimeError as error:
        found = refusal(error)

    assert found == (500, "the model failed; see the server's log")
    assert "KeyError: 'secret'" in capfd.readouterr().err


def test_an_image_that_its_reader_found_no_memory_for_is_the_requests_fault_too():
    try:
        try:
            raise MemoryError
        except MemoryError:
            raise DataError("image 0: cannot be decoded (MemoryError: )") from None
    except DataError as error:
        assert refusal(error)[0] == 413


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_too_little_memory_is_the_requests_fault(error):
    assert refusal(error) == (413, "the images need more memory than a request may take. Send fewer or smaller ones")


def test_memory_is_bounded_from_now_on():
    code = "from isthmus.serving.serving_process import bound_memory; held = bytearray(10**8); bound_memory(10**8)\n"
    code += "bytearray(5 * 10**7)\ntry:\n    bytearray(15 * 10**7)\nexcept MemoryError:\n    print('refused')"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("refused\n", "")


def test_every_limit_is_an_option_that_help_and_documentation_name():
    documented = (REPOSITORY / "docs" / "serving.md").read_text()
    told = CliRunner().invoke(app, ["serve", "--help"], terminal_width=200).output

    for field in fields(Limits):
        option = f"--max-{field.name.replace('_', '-')}"
        assert re.search(rf"\| `{option}` \| {field.default} \|", documented), option
        assert re.search(rf"{option} .*default: {field.default};", told), option


def test_a_port_that_is_taken_is_named(empty_files):
    add_version(empty_files)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"--port {port}: Address already in use. Name a free one with --port"):
            serve(empty_files, f"{MODEL}@candidate", "127.0.0.1", port, Limits())

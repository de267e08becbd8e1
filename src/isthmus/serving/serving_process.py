"""Answers requests with one registered model, in a process of its own that the server may kill.

    python -P serving_process.py models:/m-... THREADS IMAGES PIXELS BYTES       with MLFLOW_TRACKING_URI set

THREADS requests are computed at once; IMAGES and PIXELS bound a request, BYTES the memory that requests may take beside
the loaded model. What runs is the code bundled with the model, inside MLflow's own scoring code; nothing of this
project is imported by name. In, for each request: a line of JSON, `[number, length]`, and the body. Out: a line of
JSON, `[number, 200, rows]`, or with an HTTP status and a message. The first line out says that the model is loaded.
"""

import base64
import codecs
import importlib.util
import json
import logging
import resource
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

_SHAPE = 'Send {{"dataframe_records": [{{{}}}, ...]}} as application/json'


class RefusedError(Exception):
    """A request that the model does not see: HTTP status and message."""


class Worker:
    """The loaded model, and what a request to it may hold.

    Args:
        model: MLflow's `PyFuncModel`; its own code holds the files of a request against `pixels`.
        images: most images in a request.
        pixels: most pixels in a request, as its files declare them.
    """

    def __init__(self, model: Any, images: int, pixels: int) -> None:
        self._model = model
        self._images = images
        self._inputs = list(model.metadata.get_input_schema().input_names())
        model.unwrap_python_model().most_pixels = pixels

    def answer(self, body: bytes) -> tuple[int, Any]:
        """Returns an HTTP status, and the rows or a message."""
        try:
            return 200, self._rows(checked(body, self._images, self._inputs))
        except Exception as error:
            return refusal(error)

    def _rows(self, records: list[dict[str, str]]) -> list[dict[str, Any]]:
        from mlflow.pyfunc import scoring_server

        body = json.dumps({"dataframe_records": records})
        answer = scoring_server.invocations(
            body, "application/json", self._model, self._model.metadata.get_input_schema()
        )
        rows: list[dict[str, Any]] = json.loads(answer.response)["predictions"]
        return rows


def checked(body: bytes, images: int, inputs: list[str]) -> list[dict[str, str]]:
    """Returns a request's examples, images in base64, after everything that is checked before one is decoded.

    Args:
        body: of the request.
        images: most of them that it may have, all inputs together.
        inputs: names of the images of an example.

    Raises:
        RefusedError: it is no JSON of the documented shape.
    """
    body, most = body.removeprefix(codecs.BOM_UTF8), max(1, images // len(inputs))
    shape = _SHAPE.format(", ".join(f'"{name}": "<base64 of an image file>"' for name in inputs))
    if not body.isascii() or sum(body.count(mark) for mark in b"[{,") > most * (len(inputs) + 1) + 1:
        # parsed, such a body could need many times its size
        raise RefusedError(400, f"not of the documented shape. {shape}")
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"not JSON ({error}). {shape}") from None
    rows = given.get("dataframe_records") if isinstance(given, dict) and len(given) == 1 else None
    wanted = set(inputs)
    if not isinstance(rows, list) or not rows or not all(isinstance(r, dict) and set(r) == wanted for r in rows):
        raise RefusedError(400, f"not of the documented shape. {shape}")
    for place, row in enumerate(rows):
        try:
            for name in inputs:
                base64.b64decode(row[name], validate=True)
        except (TypeError, ValueError):
            raise RefusedError(400, f"image {place}: not base64. {shape}") from None
    return rows


def refusal(error: Exception) -> tuple[int, str]:
    """Returns what a client should know of an error: never its stack, which the log gets where the model failed."""
    if isinstance(error, RefusedError):
        status, message = error.args
        return status, message
    causes = list(_causes(error))
    if any(isinstance(cause, MemoryError) or "allocate memory" in str(cause) for cause in causes):
        return 413, "the images need more memory than a request may take. Send fewer or smaller ones"
    for cause in causes:
        name = type(cause).__name__  # the class is that of the bundled code, not ours to import
        if name in ("DataError", "TooManyPixelsError"):
            return 400 if name == "DataError" else 413, str(cause)
    traceback.print_exception(error)
    return 500, "the model failed; see the server's log"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def bound_memory(more: int) -> None:
    """Lets this process take so many bytes more than now, where there is /proc; then an allocation fails."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        now = int(lines["VmData"].split()[0]) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (now + more, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def read_request(stream: BinaryIO) -> tuple[int, bytes] | None:
    """Returns number and body of the next request, None at the end of the stream."""
    line = stream.readline()
    if not line:
        return None
    number, length = json.loads(line)
    return number, stream.read(length)


def main() -> None:
    """Serves standard input until it ends."""
    warnings.simplefilter("ignore")  # what decoders remark on odd files would fill the log
    logging.disable(logging.WARNING)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of the terminal's processes; the server ends this
    shared = _sibling("prediction_process")
    answers, asked = shared.own_output(), shared.read_ahead(read_request)
    import mlflow

    threads, images, pixels, more = map(int, sys.argv[2:6])
    worker = Worker(mlflow.pyfunc.load_model(sys.argv[1]), images, pixels)
    bound_memory(more)
    answers.write('"ready"\n')
    one_line = threading.Lock()

    def work() -> None:
        while True:
            number, body = asked.get()
            found = json.dumps([number, *worker.answer(body)])
            with one_line:
                answers.write(f"{found}\n")

    for _ in range(threads - 1):
        threading.Thread(target=work, daemon=True).start()
    work()


def _sibling(name: str) -> Any:
    # By path: by its name it would be the model's own copy, or none.
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()

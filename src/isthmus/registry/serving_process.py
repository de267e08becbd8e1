"""MLflow's own scoring server for one model, behind a guard that checks what comes in and counts what goes out.

    python -P serving_process.py models:/m-... HOST PORT MAX_BYTES AGGREGATES STATISTICS VERSION

with MLFLOW_TRACKING_URI set.

It imports nothing of this project by name: `isthmus` here is the code bundled with the model.
"""

import base64
import binascii
import importlib.util
import json
import re
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_SECONDS_BETWEEN_WRITES = 2.0
_IMAGES_A_BATCH = 32  # answers are kept together: the line of a single one would tell that answer
_SECONDS_A_BATCH = 3600.0  # then a smaller batch is kept, so that an idle server's last images are seen in time
_THROWN_AWAY = 8  # times the limit: more than that of one request is not even read
_SHAPE = 'Send {"dataframe_records": [{"image": "<base64 of an image file>"}, ...]} as application/json'


class RefusedError(Exception):
    """A request that is not passed on: HTTP status and what the client should know."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Guard:
    """An ASGI application around the scoring server.

    Args:
        app: the scoring server.
        limit: largest request body [byte].
        statistics: `Aggregates`, counted on from an earlier run.
        path: where they are kept.
        batches: takes the answers in, each when it is given.
    """

    def __init__(self, app: Any, limit: int, statistics: Any, path: Path, batches: "Batches") -> None:
        self._app = app
        self._limit = limit
        self._statistics = statistics
        self._path = path
        self._batches = batches
        self._written = 0.0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Lets the server's own pages through, and requests for an answer after a check."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._at_the_end(send))
        elif scope["type"] != "http" or scope["path"] != "/invocations":
            await self._app(scope, receive, send)
        else:
            try:
                status, body = await self._answer(scope, receive)
            except RefusedError as error:
                self._statistics.refused += 1
                status, body = error.status, json.dumps({"error": str(error)}).encode()
            self._keep()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            if status == 413:
                headers.append((b"connection", b"close"))  # the rest of the body may not have been read
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Message, receive: Receive) -> tuple[int, bytes]:
        body = await self._body(scope, receive)
        check_request(dict(scope["headers"]).get(b"content-type", b"").decode("latin-1"), body)
        given = iter([{"type": "http.request", "body": body, "more_body": False}])
        answered: list[Message] = []

        async def replay() -> Message:
            return next(given, {"type": "http.disconnect"})

        async def collect(message: Message) -> None:
            answered.append(message)

        await self._app(scope, replay, collect)
        status = int(answered[0]["status"])
        content = b"".join(message.get("body", b"") for message in answered[1:])
        if status != 200:
            raise refusal_of(status, content)
        answers = json.loads(content)["predictions"]
        self._statistics.add(answers)
        self._batches.add(answers)
        return status, content

    async def _body(self, scope: Message, receive: Receive) -> bytes:
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        size = int(announced) if announced.isdigit() else 0
        parts: list[bytes] = []
        more = True
        # A client that is still sending sees no answer: so what is too large is read to its end, and thrown away.
        read, too_large, give_up = 0, size > self._limit, size > _THROWN_AWAY * self._limit
        while more and not give_up:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RefusedError(400, "the request ended before its body did")
            read, more = read + len(message.get("body", b"")), bool(message.get("more_body"))
            too_large, give_up = too_large or read > self._limit, read > _THROWN_AWAY * self._limit
            parts = [] if too_large else [*parts, message.get("body", b"")]
        if too_large:
            raise RefusedError(413, f"the request is larger than {self._limit} bytes. Send fewer or smaller images")
        return b"".join(parts)

    def _keep(self, at_once: bool = False) -> None:
        if at_once or time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES:
            self._statistics.write(self._path)
            self._written = time.monotonic()

    def _at_the_end(self, send: Send) -> Send:
        async def watched(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                self._keep(at_once=True)
                self._batches.write()
            await send(message)

        return watched


class Batches:
    """Gathers answers and appends a line to the kept statistics for every 32 images, hour, and end of the server.

    Args:
        kept: the module `batch_statistics`.
        path: the file it appends to.
        model_id: of the model that answers.
        version: its number in the registry.
    """

    def __init__(self, kept: Any, path: Path, model_id: str, version: str) -> None:
        self._kept = kept
        self._path = path
        self._model = (model_id, version)
        self._rows: list[dict[str, Any]] = []
        self._began = 0.0

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Takes the answers to one request in."""
        self._began = self._began if self._rows else time.monotonic()
        # A model that was published before there were domain scores answers all the same.
        self._rows += [row for row in rows if "domain_score" in row]
        if len(self._rows) >= _IMAGES_A_BATCH or time.monotonic() - self._began > _SECONDS_A_BATCH:
            self.write()

    def write(self) -> None:
        """Appends what was gathered. A full disk is said in the log and stops no answer."""
        if not self._rows:
            return
        try:
            self._kept.keep(self._path, self._kept.summarise(self._rows, *self._model, datetime.now(UTC)))
        except OSError as error:
            print(f"statistics of {len(self._rows)} images are lost: {error}", file=sys.stderr, flush=True)
        self._rows = []


def check_request(content_type: str, body: bytes) -> None:
    """Checks a request before anything decodes an image of it.

    Raises:
        RefusedError: it is no JSON of the documented shape.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, f"content type '{content_type or 'none'}'. {_SHAPE}")
    try:
        given = json.loads(body)
    except ValueError as error:
        raise RefusedError(400, f"not JSON ({error}). {_SHAPE}") from None
    rows = given.get("dataframe_records") if isinstance(given, dict) and len(given) == 1 else None
    if not isinstance(rows, list) or not rows or not all(isinstance(r, dict) and list(r) == ["image"] for r in rows):
        raise RefusedError(400, f"not of the documented shape. {_SHAPE}")
    for place, row in enumerate(rows):
        try:
            base64.b64decode(row["image"], validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise RefusedError(400, f"image {place}: not base64. {_SHAPE}") from None


def refusal_of(status: int, content: bytes) -> RefusedError:
    """Turns an error of the scoring server, which shows its stack, into what a client should know."""
    text = content.decode("utf-8", "replace")
    reasons = re.findall(r"\.DataError: (.*)", json.loads(text).get("stack_trace", "") if text[:1] == "{" else "")
    if reasons:
        return RefusedError(400, reasons[-1])
    print(f"the model failed (status {status}): {text}", file=sys.stderr, flush=True)
    return RefusedError(504 if status == 504 else 500, "the model failed; the server's log says why")


def main() -> None:
    """Loads the model and serves until it is stopped."""
    import mlflow
    import uvicorn
    from mlflow.pyfunc import scoring_server

    uri, host, port, limit, statistics, kept, version = sys.argv[1:8]
    aggregates, batch_statistics = _sibling("aggregates"), _sibling("batch_statistics")
    app = scoring_server.init(mlflow.pyfunc.load_model(uri))
    batches = Batches(batch_statistics, Path(kept), uri.rpartition("/")[2], version)
    guard = Guard(app, int(limit), aggregates.read_aggregates(Path(statistics)), Path(statistics), batches)
    print(f"serving {uri} at http://{host}:{port}/invocations", file=sys.stderr, flush=True)
    uvicorn.run(guard, host=host, port=int(port), log_level="warning", access_log=False)


def _sibling(name: str) -> Any:
    # By path: by its name it would be the model's own copy, or none.
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()

"""The HTTP side of a served model: its pages, and the checks of a request before the model sees it.

Paths and JSON are those of MLflow's scoring server: `/invocations`, `/ping`, `/health`, `/version`.
"""

import asyncio
import html
import json
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, NamedTuple

from isthmus.serving.batch_statistics import Batches
from isthmus.serving.model_process import ModelProcess
from isthmus.serving.request_limits import Limits, RefusedError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
_BLOCK = 65_536  # [byte]: one array that grows to a whole body would be copied, and leave holes in memory
_JSON = "application/json"
_METHODS = dict.fromkeys(("/", "/docs", "/ping", "/health", "/version"), ("GET", "HEAD")) | {"/invocations": ("POST",)}
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>NAME</title>
<style>body { font-family: sans-serif; max-width: 50em; margin: 2em auto }</style>
<h1>NAME</h1>
<p><code>POST /invocations</code> with the content type <code>application/json</code>:
<pre>{"dataframe_records": [{"image": "&lt;base64 of an image file&gt;"}, ...]}</pre>
<p>A model of changes between two dates takes <code>"image"</code> and <code>"image_b"</code>, the later one.
<p>The answer: <code>{"predictions": [{"class": ..., "probability_...": ..., ...}, ...]}</code>, one for each image, in
order. Refusals: <code>{"error": "..."}</code>.
<p><code>GET /ping</code>: 200 once the model is loaded. <code>GET /version</code>: the version of MLflow.
<h2>Limits</h2>
<table>ROWS</table>
</html>
"""


class Reply(NamedTuple):
    """What a client gets."""

    status: int
    body: str
    content_type: str = _JSON
    headers: dict[str, str] = {}


class Guard:
    """The ASGI application in front of the model's process.

    Args:
        model: the process.
        name: of the model and its version, as shown to people.
        limits: of requests.
        batches: collects the statistics of the answers.

    Attributes:
        limits: as given.
        failure: why the model could not be loaded; then `stop` was called.
        stop: ends the server.
    """

    def __init__(self, model: ModelProcess, name: str, limits: Limits, batches: Batches) -> None:
        self.failure: BaseException | None = None
        self.stop: Callable[[], None] = lambda: None
        self._model = model
        self._name = name
        self.limits = limits
        self._batches = batches
        self._held = 0  # bytes of bodies

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request, or keeps the model as long as the server lives."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        incoming = _Incoming(receive)
        try:
            reply = await self._reply(scope, incoming)
        except asyncio.CancelledError:
            reply = _refusal(RefusedError(503, "the server is being stopped"))
        except RefusedError as error:
            reply = _refusal(error)
            # A client that is still sending would see a broken connection and no answer, so what is left of its body is
            # read and thrown away; a client that asked first (curl does) is not sending yet.
            if error.status != 408 and b"expect" not in dict(scope["headers"]):
                await incoming.drain(self.limits.body_seconds)
        body = reply.body.encode()
        headers = {"content-type": reply.content_type, "content-length": str(len(body))} | reply.headers
        coded = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": coded})
        await send({"type": "http.response.body", "body": body})

    async def _reply(self, scope: Message, incoming: "_Incoming") -> Reply:
        path, methods = scope["path"], _METHODS.get(scope["path"])
        if methods is None:
            raise RefusedError(404, f"no such page. There are: {', '.join(_METHODS)}")
        if scope["method"] not in methods:
            allowed = ", ".join(methods)
            raise RefusedError(405, f"{scope['method'][:20]} is not allowed here. Allowed: {allowed}", allow=allowed)
        if path == "/invocations":
            return await self._answer(scope, incoming)
        if path == "/version":
            return Reply(200, version("mlflow"))
        if path in ("/ping", "/health"):
            if not self._model.loaded:
                raise RefusedError(503, "the model is being loaded")
            return Reply(200, "\n")
        policy = "default-src 'none'; style-src 'unsafe-inline'"
        return Reply(200, self._page(), "text/html; charset=utf-8", {"content-security-policy": policy})

    async def _answer(self, scope: Message, incoming: "_Incoming") -> Reply:
        check_head(scope["headers"], self.limits)
        body: list[bytearray] = []
        try:
            await self._read(incoming, body)
            images = sum(block.count(b"{") for block in body) - 1  # before each, before them all, and none in base64
            if images > self.limits.images:
                most = self.limits.images
                raise RefusedError(413, f"{images} images, or not of the documented shape. Allowed: {most} a request")
            status, found = await self._asked(body, incoming)
        finally:
            self._held -= sum(map(len, body))
            body.clear()  # an error that is raised holds this frame until its client has stopped sending
        if status != 200:
            raise RefusedError(status, found)
        self._batches.add(found)
        return Reply(200, json.dumps({"predictions": found}))

    async def _read(self, incoming: "_Incoming", body: list[bytearray]) -> None:
        """Adds the body to `body` in blocks, as long as it is small, quick and there is room."""
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                size, more = 0, True
                while more:
                    message = await incoming()
                    if message["type"] == "http.disconnect":
                        raise RefusedError(400, "the connection ended before the body did")
                    part, more = message.get("body", b""), message.get("more_body", False)
                    if not body or len(body[-1]) >= _BLOCK:
                        body.append(bytearray())
                    body[-1] += part
                    self._held += len(part)
                    size += len(part)
                    if size > self.limits.body:
                        raise _too_large(self.limits)
                    if self._held > self.limits.bodies:
                        raise RefusedError(503, "too many requests at once. Try again", **{"retry-after": "1"})
        except TimeoutError:
            seconds = self.limits.body_seconds
            raise RefusedError(
                408, f"the body did not arrive within {seconds} s. Send fewer or smaller images", connection="close"
            ) from None

    async def _asked(self, body: list[bytearray], incoming: "_Incoming") -> tuple[int, Any]:
        """Returns what the model's process answers, unless the client leaves or waits too long."""
        answer = await self._model.ask(body)
        gone = asyncio.create_task(incoming.until_gone())
        either: list[asyncio.Future[Any]] = [answer, gone]
        try:
            await asyncio.wait(either, timeout=self.limits.seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            waiting = not answer.done()
            answer.cancel()
        if waiting:
            raise RefusedError(503, f"no answer within {self.limits.seconds} s. Try again")
        return answer.result()

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        running = asyncio.create_task(self._model.run(self._name))
        running.add_done_callback(self._ended)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        running.cancel()
        await asyncio.wait({running})
        self._batches.write()
        await send({"type": "lifespan.shutdown.complete"})

    def _ended(self, running: "asyncio.Task[None]") -> None:
        if not running.cancelled():
            self.failure = running.exception()
            self.stop()

    def _page(self) -> str:
        name = html.escape(self._name)
        rows = "".join(f"<tr><td>{key.replace('_', ' ')}<td>{value}" for key, value in asdict(self.limits).items())
        return _PAGE.replace("NAME", name).replace("ROWS", rows)


def check_head(headers: list[tuple[bytes, bytes]], limits: Limits) -> None:
    """Checks what a request says of its body, before that is read.

    Raises:
        RefusedError: it is no JSON in UTF-8, is packed, or too large.
    """
    given = {name: value.decode("latin-1") for name, value in headers}
    content_type = given.get(b"content-type", "")
    kind, _, parameters = content_type.lower().partition(";")
    charsets = [
        value.strip('" ')
        for key, _, value in (p.strip().partition("=") for p in parameters.split(";"))
        if key == "charset"
    ]
    if kind.strip() != _JSON or any(charset not in ("utf-8", "us-ascii") for charset in charsets):
        raise RefusedError(415, f"content type '{content_type[:100] or 'none'}'. Send {_JSON}, in UTF-8")
    packing = given.get(b"content-encoding", "identity")
    if packing.lower() != "identity":
        raise RefusedError(415, f"content encoding '{packing[:100]}'. Send the body as it is")
    if int(given.get(b"content-length", 0)) > limits.body:
        raise _too_large(limits)


def _too_large(limits: Limits) -> RefusedError:
    return RefusedError(413, f"the request is larger than {limits.body} bytes. Send fewer or smaller images")


class _Incoming:
    """What a client sends, message by message."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self._ended = not message.get("more_body", False)  # a connection that is lost has no more either
        return message

    async def drain(self, seconds: float) -> None:
        """Reads to the end, but no longer than a time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._ended:
                    await self()

    async def until_gone(self) -> None:
        """Waits until the client is."""
        while (await self())["type"] != "http.disconnect":
            pass


def _refusal(error: RefusedError) -> Reply:
    later = {"retry-after": "5"} if error.status == 503 else {}
    return Reply(error.status, json.dumps({"error": str(error)}), headers=later | error.headers)

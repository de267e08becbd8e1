"""The HTTP server of one model: uvicorn, with bounds on connections and on clients that send or read too slowly.

    python -P -m isthmus.serving.http_server JOB

in the environment of the model's process; JOB is JSON, as `serve.py` writes it.

uvicorn by itself waits for ever for the head of a request, for what is left of a refused one, and for a client that
does not read its answer.
"""

import json
import sys
from asyncio import TimerHandle, Transport
from contextlib import suppress
from pathlib import Path

from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol

from isthmus.core.errors import StoreError
from isthmus.core.progress import log
from isthmus.serving import serving_process
from isthmus.serving.batch_statistics import Batches
from isthmus.serving.guard import Guard
from isthmus.serving.model_process import LANES, ModelProcess
from isthmus.serving.request_limits import CONNECTIONS, Limits

_READ = 16_384  # [byte] at once: a body in chunks of one byte takes 0.3 s of parsing for each 100 kB, and others wait
_SECONDS_TO_FINISH = 2  # answers that are under way when the server is stopped
_NO_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: 35\r\nconnection: close\r\n\r\n"
    b'{"error": "no request of HTTP/1.1"}'
)
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 44\r\nretry-after: 1\r\n"
    b'connection: close\r\n\r\n{"error": "too many connections. Try again"}'
)


def listen(guard: Guard, host: str, port: int) -> None:
    """Answers HTTP requests until a signal, or until the model cannot be loaded.

    Raises:
        StoreError: the model cannot be loaded.
    """
    server = Server(
        Config(
            guard, host, port, http=Connection, ws="none", lifespan="on", loop="asyncio", log_level="error",
            access_log=False, server_header=False, proxy_headers=False, timeout_graceful_shutdown=_SECONDS_TO_FINISH,
        )
    )  # fmt: skip
    guard.stop = lambda: setattr(server, "should_exit", True)
    with suppress(KeyboardInterrupt):  # uvicorn raises it again once all is in order
        server.run()
    if guard.failure:
        raise guard.failure


class Connection(H11Protocol):
    """One connection to a `Guard`, cut off where its client needs longer than `Limits.body_seconds`."""

    _sending: TimerHandle | None = None
    _reading: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Starts the clock; where there are too many connections, answers 503 and closes this one."""
        super().connection_made(transport)
        transport.max_size = _READ  # type: ignore[attr-defined]
        transport.set_write_buffer_limits(0)  # so that whatever the client has not read starts the clock
        if len(self.connections) > CONNECTIONS:
            transport.write(_FULL)
            transport.close()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Takes what the client sent; the clock stands still while a request is read and answered by the guard."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clocks."""
        self._sending = _stopped(self._sending)
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Starts the clock for a client that does not read its answer."""
        super().pause_writing()
        self._reading = self._reading or self._started()

    def resume_writing(self) -> None:
        """Stops that clock."""
        super().resume_writing()
        self._reading = _stopped(self._reading)

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP, in JSON as every refusal is."""
        self.transport.write(_NO_HTTP)
        self.transport.close()

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._sending = _stopped(self._sending)
        else:
            self._sending = self._sending or self._started()

    def _started(self) -> TimerHandle:
        return self.loop.call_later(self.config.app.limits.body_seconds, self.transport.abort)  # type: ignore[union-attr]


def _stopped(timer: TimerHandle | None) -> TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None


def main() -> None:
    """Serves the model of the command line."""
    job = json.loads(sys.argv[1])
    limits = Limits(**job["limits"])
    numbers = LANES, limits.images, limits.megapixels * 1_000_000, limits.memory * 1_000_000
    uri = f"models:/{job['model_id']}"
    model = ModelProcess([sys.executable, "-P", serving_process.__file__, uri, *map(str, numbers)], limits)
    batches = Batches(Path(job["kept"]), job["model_id"], job["version"])
    name = f"{job['model']} version {job['version']}"
    log(f"serve: loading {name} for http://{job['host']}:{job['port']}/invocations")
    try:
        listen(Guard(model, name, limits, batches), job["host"], job["port"])
    except StoreError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_status) from None


if __name__ == "__main__":
    main()

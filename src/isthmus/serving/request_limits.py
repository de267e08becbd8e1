"""What one request to `isthmus serve`, and all of them together, may cost."""

from dataclasses import dataclass

BODIES = 4  # times the largest request: memory for the bodies of all requests together
CONNECTIONS = 256  # open at once; one more is answered 503 and closed


@dataclass(frozen=True)
class Limits:
    """Bounds of requests; each is an option of `isthmus serve`.

    Attributes:
        megabytes: largest request body [MB].
        images: most images in a request.
        megapixels: most pixels in a request, as its image files declare them [million].
        waiting: most requests that wait for an answer.
        seconds: longest time from the last byte of a request to its answer [s].
        body_seconds: longest time for the head of a request to arrive, and again for its body [s].
        memory: what the model's process may take for requests, beside the loaded model [MB].
    """

    megabytes: int = 32
    images: int = 64
    megapixels: int = 64
    waiting: int = 32
    seconds: int = 60
    body_seconds: int = 30
    memory: int = 4096

    @property
    def body(self) -> int:
        """Largest request body [byte]."""
        return self.megabytes * 1_000_000

    @property
    def bodies(self) -> int:
        """All request bodies that are held at once [byte]."""
        return BODIES * self.body


class RefusedError(Exception):
    """A request that gets no answer.

    Args:
        status: of HTTP.
        message: what the client should know.
        headers: further ones of the reply, such as `retry-after`.
    """

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers

"""One file from a mirror folder or a web address: whole, checked, and not larger than it may be."""

import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from isthmus.core.errors import DataError
from isthmus.core.files import atomic_file, sha256_file

MAX_FILE_BYTES = 64 * 2**20
_TIMEOUT = 30.0  # [s] without a byte
_PAUSES = (1.0, 3.0)  # [s] before the second and third try of what may pass
_BLOCK = 1 << 16


def safe_path(path: str, where: str) -> str:
    """Returns a relative path as it is.

    Raises:
        DataError: it would leave its folder.
    """
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path:
        raise DataError(f"{where}: path '{path}' leaves its folder. Allowed: relative paths with '/' and without '..'")
    return path


def is_web(address: str) -> bool:
    """Returns whether an address is http(s).

    >>> is_web("https://example.org/data"), is_web("../shared/data")
    (True, False)
    """
    return address.startswith(("http://", "https://"))


def bring(
    address: str,
    path: str,
    to: Path,
    sha256: str,
    recode: Callable[[Path], None] | None = None,
    digest: Callable[[Path], str] = sha256_file,
) -> None:
    """Copies or downloads one file; one that is already there and right is kept.

    Args:
        address: a folder, or the beginning of a web address.
        path: of the file below it.
        to: where it goes; written atomically.
        sha256: what it must hash to.
        recode: turns the origin's file into the known one, in place, before it is hashed.
        digest: what is hashed; the bytes.

    Raises:
        DataError: it cannot be had, is too large, or holds other bytes.
    """
    if to.is_file() and digest(to) == sha256:
        return
    with atomic_file(to) as partial:
        whole = f"{address.rstrip('/')}/{urllib.parse.quote(path) if is_web(address) else path}"
        if is_web(address):
            _download(whole, partial)
        else:
            _copy(Path(address) / path, partial)
        if recode is not None:
            recode(partial)
        if (got := digest(partial)) != sha256:
            again = "" if recode is None else ", or this machine's decoder produces other pixels or bytes"
            raise DataError(
                f"{whole}: SHA-256 is {got}, expected {sha256}. The file is broken or was changed{again}: nothing"
                f" was saved" + ("" if recode is None else f". {_ADVICE}")
            )


def _copy(origin: Path, partial: Path) -> None:
    try:
        size = origin.stat().st_size
        if size > MAX_FILE_BYTES:
            raise DataError(f"{origin}: {size} bytes; the limit is {MAX_FILE_BYTES}")
        partial.write_bytes(origin.read_bytes())
    except OSError as error:
        raise DataError(f"{origin}: cannot be read ({error.strerror}). Is --mirror the right folder?") from None


def _download(address: str, partial: Path) -> None:
    for pause in (*_PAUSES, None):
        try:
            _stream(address, partial)
            return
        except urllib.error.HTTPError as error:
            if pause is None or error.code < 500:
                raise DataError(f"{address}: the server answers {error.code} {error.reason}. {_ADVICE}") from None
        except OSError as error:  # URLError and timeouts among them
            if pause is None:
                reason = getattr(error, "reason", error)
                raise DataError(f"{address}: cannot be reached ({reason}). {_ADVICE}") from None
        time.sleep(pause)


_ADVICE = (
    "Run the same command again (finished files are kept), or give '--mirror' a folder or address that has the files"
)


def _stream(address: str, partial: Path) -> None:
    request = urllib.request.Request(address, headers={"User-Agent": "isthmus"})  # noqa: S310 - is_web() was asked
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer, partial.open("wb") as out:  # noqa: S310
        expected, size = answer.headers.get("Content-Length"), 0
        while block := answer.read(_BLOCK):
            size += len(block)
            if size > MAX_FILE_BYTES:
                raise DataError(f"{address}: more than {MAX_FILE_BYTES} bytes, the limit of one file")
            out.write(block)
    if expected is not None and size != int(expected):
        raise OSError(f"the connection ended after {size} of {expected} bytes")

"""Why a file cannot be read, as a person would say it and without its path."""

import re
from pathlib import Path

_TEXT_HEAD = 512  # [byte] looked at to tell words from data


def reason_for(path: Path, error: Exception, what: str, quote: bool = True) -> str:
    """Returns the reason why a decoder failed.

    Args:
        path: the file; no part of its name is in the reason, for it may name a patient.
        error: what the decoder raised.
        what: what the file should be, such as `a DICOM file`.
        quote: whether the decoder's own words may be shown; they may hold values of the file.
    """
    with path.open("rb") as stream:
        head = stream.read(_TEXT_HEAD)
    if not head:
        return "file is empty (0 bytes)"
    if not head.strip(b"\0") and path.stat().st_size <= _TEXT_HEAD:
        return f"content is zero bytes only, not {what}"
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head):
        return f"content is text, not {what}"
    if isinstance(error, EOFError):
        return f"file is truncated (ends after {path.stat().st_size} bytes)"
    words = f": {without_path(str(error), path)}" if quote else ""
    return f"cannot be decoded ({type(error).__name__}{words})"


def without_path(text: str, path: Path) -> str:
    """Returns a decoder's message on one line, the path and the name taken out.

    >>> without_path("no such bands in /data/jones.tif", Path("/data/jones.tif"))
    'no such bands in the file'
    >>> without_path("WebPDecode: c.tif cannot be read", Path("c.tif"))
    'WebPDecode: the file cannot be read'
    """
    for name in (str(path.absolute()), str(path), path.name, path.stem):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "the file", text) if name else text
    return " ".join(text.split())

"""What classes, domains and files may be called, how a name is spelt, and which names may be shown.

A folder can be called anything but '/' and NUL, so classes and domains can too, a leading dot excepted: such folders
are hidden. Composed and decomposed accents are one name, in Unicode's form C. On Linux a name is bytes: those that are
no UTF-8 are Latin letters of an old system nearly always, and no table, JSON or YAML can hold them as they are.
"""

import os
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

_FORMATS = {"dcm", "dicom", "ima", "nii", "nii.gz", "png", "jpg", "jpeg", "tif", "tiff", "bmp", "webp", "image", "file"}
PRIVATE_KINDS = frozenset({"medical"})  # kinds whose folders and files are named after people


def nfc(name: str) -> str:
    """Returns a name in Unicode's composed form: macOS writes accents apart, everything else together.

    >>> nfc("e\\u0301") == "\\u00e9"
    True
    """
    return unicodedata.normalize("NFC", name)


Name = Annotated[str, AfterValidator(nfc)]


def name_problem(name: str) -> str:
    """Returns why nothing can be called so, empty where it can.

    >>> name_problem("Corn_(maize)___healthy"), name_problem("a/b")
    ('', "holds '/'")
    """
    if not name:
        return "is empty"
    if not is_text(name):
        return "is not UTF-8"
    held = next((what for sign, what in (("/", "'/'"), ("\0", "a NUL byte")) if sign in name), "")
    return f"holds {held}" if held else "begins with a dot, as hidden folders do" if name.startswith(".") else ""


def is_text(name: str) -> bool:
    """Returns whether a name of a file can be written as UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def readable(name: str) -> str:
    """Returns what a folder's or file's name says: composed, and bytes that are no UTF-8 as Windows' Latin letters.

    >>> readable(os.fsdecode(b"Ma\\xdfe"))
    'Maße'
    """
    if is_text(name):
        return nfc(name)
    data = os.fsencode(name)
    try:
        return nfc(data.decode("cp1252"))
    except UnicodeDecodeError:
        return nfc(data.decode("latin-1"))


def as_text(name: str) -> str:
    """Returns a path that a table or JSON can hold: bytes that are no UTF-8 as `\\xe9`."""
    return name if is_text(name) else os.fsencode(name).decode("utf-8", "backslashreplace")


def printable(name: str) -> str:
    r"""Returns a name on one line, for messages.

    >>> printable("a\nb")
    'a\\nb'
    """
    text = as_text(name)
    if text.isprintable():
        return text
    odd = {c for c in text if unicodedata.category(c) in ("Cc", "Zl", "Zp")}
    return "".join(c.encode("unicode_escape").decode() if c in odd else c for c in text)


def shown_name(path: str, kind: str, stand_in: str) -> str:
    """Returns the name of a raw file that messages, logs, reports and stores may hold: the only place that decides it.

    Args:
        path: of the file.
        kind: of the scenario.
        stand_in: what is shown of medical files, whose paths may name a patient: their number, or an image id;
            'isthmus where' finds the file by it, on the machine where the images are.
    """
    return stand_in if kind in PRIVATE_KINDS else printable(path)


def private_reason(text: str, path: str, kind: str) -> str:
    """Returns why a file is not used: of a private kind every part of its path is taken out, its suffix too.

    >>> private_reason("no reader for '.mueller'. Known: .png", "ct_a/hans.mueller", "medical")
    "no reader for '...'. Known: .png"
    """
    if kind not in PRIVATE_KINDS:
        return text
    parts = [part for part in path.split("/") if part]
    name = parts[-1] if parts else ""
    pieces = {path, *parts, *(name[place:] for place, sign in enumerate(name) if sign == "."), *name.split(".")}
    told = (
        p for p in pieces if len(p.strip(".")) > 2 and p.strip(".").casefold() not in _FORMATS
    )  # shorter says nothing
    for piece in sorted(told, key=len, reverse=True):
        at = text.casefold().find(piece.casefold())
        while at >= 0:
            text = f"{text[:at]}...{text[at + len(piece) :]}"
            at = text.casefold().find(piece.casefold(), at + 3)
    return text

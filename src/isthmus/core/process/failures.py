"""How a command of ours ends when something goes wrong: one message for a person, never a Python traceback.

A user's mistake has its message already (`errors.py`). Trouble of the machine (a full disk, a folder that may not be
written) gets its message here, whichever library met it. All else is a defect of ours: its traceback goes to a file.
"""

import errno
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from isthmus.core.addresses import without_passwords
from isthmus.core.errors import DefectError, IsthmusError, MachineError
from isthmus.core.plugins import install_command_of

LOGS = Path(".isthmus") / "log"  # in the project
INTERRUPTED = "interrupted: no partial files are left; run the same command again"
_AGAIN = "run the same command again: no partial files are left"
# What people call it, and what to do. Libraries hide the number in their own exceptions, so the words count too.
_TROUBLE: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", f"Free some space and {_AGAIN}"),
    errno.EDQUOT: ("your disk quota is used up", f"Free some space and {_AGAIN}"),
    errno.EFBIG: ("the file would be larger than is allowed here", f"Raise the limit ('ulimit -f') and {_AGAIN}"),
    errno.EROFS: ("lies on a read-only file system", "Work in a copy of the project that can be written"),
    errno.EACCES: ("no permission", f"Correct the permissions ('ls -ld' shows them) and {_AGAIN}"),
    errno.EPERM: ("not permitted", f"Correct the permissions ('ls -ld' shows them) and {_AGAIN}"),
    errno.EMFILE: ("too many open files", f"Raise the limit ('ulimit -n') and {_AGAIN}"),
    errno.ENFILE: ("too many open files on this machine", f"End other programs and {_AGAIN}"),
    errno.ENOMEM: ("out of memory", f"End other programs and {_AGAIN}"),
}
_WORDS = {
    "database or disk is full": errno.ENOSPC,
    "PytorchStreamWriter failed writing": errno.ENOSPC,
    "enforce fail at inline_container.cc": errno.ENOSPC,  # torch's writer, again: it wrote less than it was given
    " requested and ": errno.ENOSPC,  # numpy's: "8 requested and 3 written"
    "attempt to write a readonly database": errno.EROFS,
    "unable to open database file": errno.EACCES,
}
_LIBRARIES_CODE = re.compile(r"\bos error (\d+)\b|\[Errno (\d+)\]")  # Rust's way and Python's, in a message
_LACKS = re.compile(r"\b(\w+) is supported, but requires '([\w-]+)' to be installed")  # DVC's way, of its packages


def machine_trouble(error: BaseException, hidden: Sequence[str] = ()) -> str:
    """Returns the message for what the machine refused, empty for any other exception.

    Args:
        error: what was raised; what it was raised from counts too.
        hidden: folders of which no file may be named.
    """
    causes = list(_causes(error))
    for one in causes:
        number = getattr(one, "errno", None)
        if isinstance(one, MemoryError):
            number = errno.ENOMEM
        if number not in _TROUBLE:
            number = _number_in(str(one))
        if number in _TROUBLE:
            what, advice = _TROUBLE[number]
            name = getattr(one, "filename", None)
            where = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes | os.PathLike) else ""
            return f"{without_names(where, hidden)}{what}. {advice}"
    if _nothing_left() and any(isinstance(one, OSError | RuntimeError) for one in causes):
        what, advice = _TROUBLE[errno.ENOSPC]  # numpy's and torch's writers say only that they wrote too little
        return f"{what}. {advice}"
    return ""


def trouble_in(text: str) -> str:
    """Returns the message for what a machine refused another program or lacks, read from its words; else empty.

    >>> trouble_in("ERROR: unexpected error - [Errno 28] No space left on device: '/p/out'")[:30]
    '/p/out: the disk is full. Free'
    """
    if lacks := _LACKS.search(text):
        storage, package = lacks.groups()
        return f"DVC's remote is on {storage}, which needs '{package}': {install_command_of(package)}"
    number = _number_in(text)
    if number not in _TROUBLE:
        return ""
    what, advice = _TROUBLE[number]
    named = re.search(r"\[Errno \d+\] [^:\n]*: '([^'\n]+)'", text)
    return f"{named.group(1)}: {what}. {advice}" if named else f"{what}. {advice}"


def other_words(text: str) -> str:
    """Returns what another program said, in one line: of a traceback the last, no password, no address of its support.

    >>> other_words("Traceback (most recent call last):\\n  File 'x'\\n    y\\nKeyError: 'seed'\\n")
    "KeyError: 'seed'"
    """
    if trouble := trouble_in(text):
        return trouble
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Having any troubles?")]
    if any(line.startswith("Traceback (most recent call last)") for line in lines):
        lines = [line for line in lines if not line.startswith(" ")][-1:]
    said = " ".join(" ".join(lines).removeprefix("ERROR: ").removeprefix("unexpected error - ").split())
    return without_passwords(said)[-600:]


def without_names(text: str, hidden: Sequence[str]) -> str:
    """Returns a text in which no file below certain folders is named.

    >>> without_names("cannot read '/p/raw/DOE JOHN.dcm' or raw", ["/p/raw"])
    "cannot read '/p/raw/...' or raw"
    """
    for folder in sorted(filter(None, hidden), key=len, reverse=True):
        text = re.sub(rf"({re.escape(folder.rstrip('/'))}/)[^'\"\n]*?(?=['\"\n]|: |$)", r"\1...", text)
    return text


@contextmanager
def one_message(name: str, hidden: Sequence[str] = ()) -> Iterator[None]:
    """Ends the process with one message on standard error when the block fails.

    Exit status: that of an error of ours; 2 where the machine refused something; 130 after Ctrl-C; 1 for a defect,
    whose traceback is kept in a file that the message names.

    Args:
        name: of the command, for the file's name.
        hidden: folders of which no file may be named: raw images, whose names can be patients'.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # who read our output has gone, as `head` does; what is buffered goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except Exception as error:
        said = in_our_words(error, name, hidden)
        print(f"error: {without_passwords(str(said))}", file=sys.stderr)
        raise SystemExit(said.exit_status) from None


def in_our_words(error: Exception, name: str, hidden: Sequence[str] = ()) -> IsthmusError:
    """Returns an exception whose message a person can read: an error of ours as it is, any other in its place.

    Args:
        error: what was raised.
        name: of the command, for the file with the traceback of a defect.
        hidden: folders of which no file may be named.
    """
    if isinstance(error, IsthmusError):
        return error
    hidden = [*hidden, *(str(Path(folder).absolute()) for folder in hidden if folder)]
    if said := machine_trouble(error, hidden):
        return MachineError(said)
    return DefectError(_defect(error, name, hidden))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _number_in(text: str) -> int | None:
    if found := _LIBRARIES_CODE.search(text):
        return int(found.group(1) or found.group(2))
    return next((number for words, number in _WORDS.items() if words in text), None)


def _nothing_left() -> bool:
    with suppress(OSError):
        return any(shutil.disk_usage(place).free < 2**16 for place in (Path.cwd(), tempfile.gettempdir()))
    return False


def _defect(error: Exception, name: str, hidden: Sequence[str]) -> str:
    text = without_passwords(without_names("".join(traceback.format_exception(error)), hidden))
    what = without_names(" ".join(f"{type(error).__name__}: {error}".split()), hidden)[:300]
    with suppress(OSError):
        file = _log(name)
        file.write_text(text, encoding="utf-8")
        return f"{what}. This is a bug in isthmus, not a mistake of yours; its traceback is in {file}"
    return f"{what}. This is a bug in isthmus, not a mistake of yours:\n{text}"


def _log(name: str) -> Path:
    if Path("dvc.yaml").exists():  # in a project
        with suppress(OSError):
            LOGS.mkdir(parents=True, exist_ok=True)
            return LOGS / f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name)}-{os.getpid()}.txt"
    handle, place = tempfile.mkstemp(prefix="isthmus-", suffix=".txt")
    os.close(handle)
    return Path(place)

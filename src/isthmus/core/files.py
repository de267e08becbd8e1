"""Atomic writes and content hashes: a file is either whole or not there."""

import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from isthmus.core.errors import DataError

_BLOCK = 1 << 20  # [byte] read at a time while hashing


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` and moves it there when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        flush(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Returns when a file's bytes are on the disk."""
    with path.open("rb") as written:
        os.fsync(written.fileno())


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields an empty temporary folder beside `path` and moves it there when the block ends without an error.

    An older folder at `path` is replaced as a whole, so that no file of an earlier run stays behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep_leftovers(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            older = path.with_name(f".{path.name}.{os.getpid()}.older")
            path.replace(older)
            partial.replace(path)
            shutil.rmtree(older)
        else:
            partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sweep_leftovers(path: Path) -> None:
    """Removes what killed processes left of `atomic_folder(path)`; a folder that one had put aside comes back.

    A kill between the two moves leaves no folder at all: the older one, which may hold what nobody can make again, is
    the one that counts then.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        found = re.fullmatch(r"\.(\d+)\.(partial|older)", left.name.removeprefix(f".{path.name}"))
        if found is None or not left.is_dir() or _is_alive(int(found[1])):
            continue
        if found[2] == "older" and not path.exists():
            left.replace(path)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True  # somebody else's
    return True


def write_text(path: Path, text: str) -> None:
    """Writes text atomically, UTF-8."""
    with atomic_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically: sorted keys and no NaN, so that equal values are equal bytes everywhere."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        DataError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. The stage that writes it has not run: see 'dvc status'") from None
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}). Delete it and run 'dvc repro' again") from None


def sha256_bytes(data: bytes) -> str:
    """Returns the SHA-256 of bytes in hex.

    >>> sha256_bytes(b"")[:8]
    'e3b0c442'
    """
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Returns the SHA-256 of a file in hex, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def hash_files(paths: Iterable[Path]) -> str:
    """Returns one hex digest of several files' contents in the given order, folders walked in name order."""
    digest = hashlib.sha256()
    for path in paths:
        members = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for member in members:
            digest.update(member.relative_to(path).as_posix().encode() + b"\0")
            digest.update(bytes.fromhex(sha256_file(member)))
    return digest.hexdigest()

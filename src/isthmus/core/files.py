"""Atomic writes and content hashes: no partial files."""

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
    sweep(path.parent)
    partial, older = (path.with_name(f".{path.name}.{os.getpid()}.{kind}") for kind in ("partial", "older"))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            path.replace(older)
        partial.replace(path)
    finally:
        if older.exists() and not path.exists():
            older.replace(path)
        shutil.rmtree(older, ignore_errors=True)
        shutil.rmtree(partial, ignore_errors=True)


def sweep(folder: Path) -> list[str]:
    """Removes what killed processes left half-written in a folder; returns what was done, one line each.

    A version that was about to be replaced, and whose successor never came, gets its name back.
    """
    done = []
    for place in sorted(folder.glob(".*.partial")) + sorted(folder.glob(".*.older")):
        found = re.fullmatch(r"\.(.+)\.(\d+)\.(partial|older)", place.name)
        if not found or _runs(int(found.group(2))):
            continue
        whole = place.with_name(found.group(1))
        if found.group(3) == "older" and not whole.exists():
            place.replace(whole)
            done.append(f"{whole}: restored; a process was killed while replacing it")
            continue
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)
        done.append(f"{place}: removed; a process was killed while writing it")
    return done


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
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
    return _digest_of(path, hashlib.sha256())


def md5_file(path: Path) -> str:
    """Returns the MD5 of a file in hex, read in blocks: the name that DVC gives it, and no safeguard."""
    return _digest_of(path, hashlib.md5(usedforsecurity=False))


def _digest_of(path: Path, digest: "hashlib._Hash") -> str:
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

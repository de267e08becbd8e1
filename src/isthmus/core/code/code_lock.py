"""`isthmus.lock`: which code of the installed package makes a project's results, and which files `isthmus init` wrote.

Where Isthmus is installed and not cloned, the stage `code` depends on this file in place of the source. So the code of
results is under git, is the same in each clone, and changes when a person says so.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

import isthmus
from isthmus.core.errors import ConfigError
from isthmus.core.files import sha256_bytes, write_text
from isthmus.core.params.yaml_file import read_yaml

NAME = "isthmus.lock"
PACKAGE = Path(isthmus.__file__).parent
_HEAD = (
    "# The code that makes the results here, and the files of `isthmus init`. `isthmus upgrade --write` renews it.\n"
)


@lru_cache(maxsize=1)
def installed() -> dict[str, str]:
    """Returns version and hash of the package that is imported."""
    files = sorted(path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    lines = [f"{path.relative_to(PACKAGE).as_posix()} {sha256_bytes(path.read_bytes())}\n" for path in files]
    return {"version": isthmus.__version__, "code": sha256_bytes("".join(lines).encode())}


def check(lock: Path) -> None:
    """Checks that the imported package is the one that makes the results; nothing to check where there is no lock.

    Raises:
        ConfigError: it is another one, or the file cannot be read.
    """
    if difference := other_package(lock):
        raise ConfigError(
            f"{lock}: the results here are made by {difference}. Install that one, or go on with this one by"
            " 'isthmus upgrade --write': stages whose code differs then run again"
        )


def other_package(lock: Path) -> str:
    """Returns which package a lock names and which is imported, empty where they are one or there is no lock.

    Raises:
        ConfigError: the file cannot be read.
    """
    if not lock.is_file():
        return ""
    wanted, there = read_lock(lock)["package"], installed()
    return "" if wanted == there else f"{shown(wanted)}, and {shown(there)} is installed"


def read_lock(lock: Path) -> dict[str, Any]:
    """Returns `package` (version and hash) and `files` (path -> sha256 as it was written).

    Raises:
        ConfigError: the file cannot be read or is not of this form.
    """
    document = read_yaml(lock)
    package, files = document.get("package"), document.get("files")
    if not isinstance(package, dict) or set(package) != {"version", "code"} or not isinstance(files, dict):
        raise ConfigError(
            f"{lock}: not as 'isthmus init' wrote it. Restore it from git, or run 'isthmus upgrade --write'"
        )
    return document


def write_lock(lock: Path, files: dict[str, str]) -> None:
    """Writes the imported package and the files (path -> sha256) into the lock; the same are the same bytes."""
    text = yaml.safe_dump({"package": installed(), "files": dict(sorted(files.items()))}, sort_keys=False)
    write_text(lock, _HEAD + text)


def shown(package: dict[str, str]) -> str:
    """Returns a package as messages name it.

    >>> shown({"version": "0.1.0", "code": "0123456789abcdef"})
    'isthmus 0.1.0 (01234567)'
    """
    return f"isthmus {package['version']} ({str(package['code'])[:8]})"

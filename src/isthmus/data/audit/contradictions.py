"""The same bytes under two classes, or in source and target: found before anything is copied.

Only files of one size can be the same, so only these are read, and of large ones the beginning first.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from isthmus.core.files import sha256_file
from isthmus.core.progress import track

_HEAD = 1 << 16  # [byte] that tell most files of one size apart


class Member(NamedTuple):
    """One file: where it lies, how long it is [byte], and what is said of it."""

    path: Path
    size: int
    domain: str
    label: str | None


def same_bytes(members: Iterable[Member]) -> list[list[Member]]:
    """Returns the groups of files whose bytes are the same, each in the order given; a file alone is in none."""
    by_size: dict[object, list[Member]] = defaultdict(list)
    for member in members:
        if member.size:  # empty files are broken ones
            by_size[member.size].append(member)
    alike = _split([group for group in by_size.values() if len(group) > 1], lambda m: _head(m.path), "compare")
    small = [group for group in alike if group[0].size <= _HEAD]
    large = [group for group in alike if group[0].size > _HEAD]
    return small + _split(large, lambda m: sha256_file(m.path), "compare whole")


def _split(groups: list[list[Member]], key: Callable[[Member], str], what: str) -> list[list[Member]]:
    found: dict[tuple[int, str], list[Member]] = defaultdict(list)
    jobs = [(number, member) for number, group in enumerate(groups) for member in group]
    for number, member in track(jobs, what, len(jobs), "file"):
        try:
            found[number, key(member)].append(member)
        except OSError:
            continue  # a file that cannot be read is said so by what reads it
    return [group for group in found.values() if len(group) > 1]


def _head(path: Path) -> str:
    with path.open("rb") as stream:
        return blake2b(stream.read(_HEAD)).hexdigest()

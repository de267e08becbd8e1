"""Reads a YAML mapping as written by people and by other programs, and refuses what would be misread.

A key that stands twice in one mapping would silently lose a value, and a few lines of aliases can stand for more values
than fit into memory. A file that another program is writing at this moment is read again.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.resolver import Resolver

from isthmus.core.errors import ConfigError
from isthmus.core.params.params_copy import as_started

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, in PyYAML's wheels, reads dvc.lock ten times faster
_RESOLVER = Resolver()
_SECONDS_BETWEEN_TRIES, _TRIES = 0.1, 10  # dvc empties params.yaml and dvc.lock before it rewrites them
_DEEPEST = 100  # mappings and lists in each other
_WRITTEN_OUT = 100_000  # values that a small file may stand for through its aliases


class UnmergedError(ConfigError):
    """A file holds git's conflict markers."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping.

    Raises:
        ConfigError: the file cannot be read, is not YAML, holds the marks of a merge, names a key twice, or is not a
            mapping.
    """
    before: bytes | None = None
    for tried in range(_TRIES):
        data = _bytes(path)
        try:
            return _mapping(data, path)
        except ConfigError:
            # the same bytes twice: no process is writing, unless the file was just emptied
            if (data == before and data.strip()) or tried == _TRIES - 1:
                raise
        before = data
        time.sleep(_SECONDS_BETWEEN_TRIES)
    raise AssertionError("the last try raises")


def _bytes(path: Path) -> bytes:
    try:
        return as_started(path).read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file. Run the command in the project's root, or name the file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None


def _mapping(data: bytes, path: Path) -> dict[str, Any]:
    try:
        text = data.decode("utf-8-sig")
        _check_merged(path, text)
        if problems := _problems(text):
            raise ConfigError("\n".join(f"{path}: {problem}" for problem in problems))
        document = yaml.load(text, _LOADER)  # noqa: S506 - a safe one
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start}). Save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigError(f"{path}: {place}not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        what = "nothing" if document is None else type(document).__name__
        raise ConfigError(f"{path}: the top level must be a mapping of sections (got {what})")
    return document


def _check_merged(path: Path, text: str) -> None:
    if found := re.search(r"^(<{7}|>{7}) ", text, re.MULTILINE):
        line = text.count("\n", 0, found.start()) + 1
        after = " Then run 'dvc repro', which rebuilds what the other side had" if path.name == "dvc.lock" else ""
        raise UnmergedError(
            f"{path}: line {line}: git conflict markers ('{found.group(1)}') of an unfinished merge. Keep one"
            f" side with 'git checkout --ours {path.name}' or 'git checkout --theirs {path.name}', or edit the file,"
            f" then 'git add {path.name}'.{after}"
        )


@dataclass
class _Open:
    """A mapping or list that has begun and not ended."""

    event: yaml.CollectionStartEvent
    size: int = 1  # values in it, aliases written out
    keys: dict[tuple[str, str], int] = field(default_factory=dict)  # of a mapping: key -> line
    at_key: bool = True

    def take(self, size: int) -> None:
        """Counts a value that has ended inside."""
        self.size += size
        self.at_key = not self.at_key


def _problems(text: str) -> list[str]:
    """Returns what must not be loaded. From the stream of events: loading itself would already use the memory."""
    problems: list[str] = []
    inside: list[_Open] = [_Open(yaml.SequenceStartEvent(None, None, True))]
    sizes: dict[str, int] = {}  # anchor -> values that its aliases stand for
    distinct = 0
    for event in yaml.parse(text, _LOADER):
        size, distinct = 1, distinct + 1
        if isinstance(event, yaml.CollectionStartEvent):
            if len(inside) > _DEEPEST:
                return [f"line {_line(event)}: nested more than {_DEEPEST} deep"]
            inside.append(_Open(event))
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            ended = inside.pop()
            event, size = ended.event, ended.size
        elif isinstance(event, yaml.AliasEvent):
            if any(event.anchor == one.event.anchor for one in inside):
                return [f"line {_line(event)}: a value that contains itself ('*{event.anchor}')"]
            size = sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.ScalarEvent):
            if isinstance(inside[-1].event, yaml.MappingStartEvent) and inside[-1].at_key:
                problems += _noted(event, inside[-1].keys)
        else:
            continue
        if event.anchor and not isinstance(event, yaml.AliasEvent):
            sizes[event.anchor] = size
        inside[-1].take(size)
    if inside[0].size > max(_WRITTEN_OUT, 10 * distinct):
        problems.append(f"its aliases ('*name') expand to {inside[0].size} values. Write the values out")
    return problems


def _noted(key: yaml.ScalarEvent, keys: dict[tuple[str, str], int]) -> Iterator[str]:
    line = _line(key)
    # by its type too: 1 and "1" are two keys, `a` and "a" are one
    identity = (key.tag or _RESOLVER.resolve(yaml.ScalarNode, key.value, key.implicit), key.value)
    if identity in keys and key.value != "<<":
        yield f"line {line}: the key '{key.value}' is already on line {keys[identity]}. Keep one"
    keys[identity] = line


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None
    return event.start_mark.line + 1

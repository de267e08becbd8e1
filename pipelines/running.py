"""One run of a scenario at a time, and what it started with."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from isthmus.core.errors import ConfigError, StoreError
from isthmus.core.files import atomic_file
from isthmus.core.locks import flocked
from isthmus.core.params.params_copy import FOLDER, NAME

_held: set[Path] = set()  # by this process: the flow `watch` holds a scenario while `transfer` runs it


@contextmanager
def running(project: Path, scenarios: Sequence[str]) -> Iterator[Path]:
    """Holds the scenarios for the length of the block; yields a copy of `params.yaml`, made now, for all stages.

    An edit during the run changes the next one (`core/params/params_copy.py`).

    Raises:
        ConfigError: another process runs one of them.
    """
    with ExitStack() as stack:
        for name in sorted(set(scenarios)):
            stack.enter_context(_one(project, name))
        copy = project / FOLDER / f"{min(scenarios)}.{NAME}"
        with atomic_file(copy) as partial:
            partial.write_bytes((project / NAME).read_bytes())
        yield copy.absolute()


def check_free(project: Path, scenarios: Sequence[str]) -> None:
    """Looks whether another process runs one of the scenarios, before anything slow begins.

    Raises:
        ConfigError: one does.
    """
    with ExitStack() as stack:
        for name in sorted(set(scenarios)):
            stack.enter_context(_one(project, name))


@contextmanager
def _one(project: Path, scenario: str) -> Iterator[None]:
    place = (project / FOLDER / f"{scenario}.lock").absolute()
    if place in _held:
        yield
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(flocked(place, patience=0))
        except StoreError:
            raise ConfigError(f"{scenario}: {_who(place)} Wait for it, or end it") from None
        stream.truncate(0)
        stream.write(json.dumps({"pid": os.getpid(), "since": f"{datetime.now():%Y-%m-%d %H:%M:%S}"}))
        stream.flush()
        _held.add(place)
        try:
            yield
        finally:
            _held.remove(place)


def _who(place: Path) -> str:
    try:
        holder = json.loads(place.read_text(encoding="utf-8"))
        return f"a run of it is under way (process {holder['pid']}, since {holder['since']})."
    except (OSError, ValueError, KeyError):  # it has just begun
        return "a run of it is under way."

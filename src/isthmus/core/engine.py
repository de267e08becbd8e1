"""Where units of work are computed that do not depend on each other: on this machine, or by Dask or Ray.

The variable ISTHMUS_ENGINE names it, with its options: `local` (the default), `dask`, `ray workers=4`, `dask
address=tcp://10.0.0.5:8786`. No result depends on it, so it stands in no params.yaml (docs/decisions/0040).
"""

import atexit
import importlib
import os
import pickle
import socket
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple, Protocol, Self, TypeVar

from pydantic import Field, model_validator

from isthmus.core import plugins
from isthmus.core.code import code_lock
from isthmus.core.config import Config, validated
from isthmus.core.errors import MachineError

T = TypeVar("T")
R = TypeVar("R")
VARIABLE = "ISTHMUS_ENGINE"
PATIENCE = 10  # [s] until a cluster must have answered
RETRIES = 3  # of a unit whose worker was killed
_IN_HAND = 3  # units a worker that are under way or wait to be read
_HTTP2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)  # answered by a frame of settings, type 4
_ALONE = threading.Lock()  # a unit needs the folder and the torch threads of its whole process


class EngineConfig(Config):
    """What ISTHMUS_ENGINE says."""

    name: Literal["local", "dask", "ray"] = Field("local", description="which engine")
    address: str = Field("", description="of a running cluster; empty: one on this machine, which ends with the stage")
    workers: int | None = Field(None, ge=1, le=1024, description="of a cluster on this machine; none: one a processor")
    memory: float | None = Field(
        None, gt=0, description="[GiB] for each worker of a cluster on this machine; none: what the engine itself takes"
    )

    @model_validator(mode="after")
    def _of_one_cluster(self) -> Self:
        own = self.workers is not None or self.memory is not None
        if self.name == "local" and (own or self.address):
            raise ValueError("local takes no options. Name dask or ray, or drop them")
        if self.address and own:
            raise ValueError("workers and memory are of a cluster on this machine. Drop them, or drop address")
        return self


class Cluster(Protocol):
    """A distributed engine: `core/engines/NAME.py` has a class `Engine` that is one."""

    workers: int

    def submit(self, unit: bytes) -> Any:
        """Begins to compute `run_unit(unit)` and returns a handle."""

    def result(self, handle: Any) -> Any:
        """Waits for what `run_unit` returned.

        Raises:
            MachineError: the workers that computed it were killed.
        """

    def cancel(self, handles: Sequence[Any]) -> None:
        """Drops units that nobody wants any more."""

    def close(self) -> None:
        """Leaves the cluster, and ends it where it was started here."""


class _Place(NamedTuple):
    """Where a unit is computed, whichever machine does it."""

    folder: str
    plugins: Path | None
    code: str


def setting() -> EngineConfig:
    """Returns what ISTHMUS_ENGINE says.

    Raises:
        ConfigError: it names no engine, or options that it does not have.
    """
    name, *options = os.environ.get(VARIABLE, "").split() or ["local"]
    return validated(EngineConfig, {"name": name} | dict(o.partition("=")[::2] for o in options), f"{VARIABLE}: ")


def is_local() -> bool:
    """Returns whether this machine computes without an engine."""
    return setting().name == "local"


def in_order(function: Callable[[T], R], items: Sequence[T], size: int = 1) -> Iterator[R]:
    """Yields `function(item)` of each item in the items' order.

    With `local` this very process computes. Else workers do: `function` and items are pickled, so they must be of
    modules that can be imported, and results are the same.

    Args:
        function: of an item; it draws on nothing but its argument and files.
        items: in order.
        size: of a unit [item]; a worker that is killed costs one.

    Raises:
        ConfigError: the engine is not installed.
        MachineError: it cannot be reached, its workers do not see this folder or have other code, or they were killed.
    """
    if is_local() or not len(items):
        yield from map(function, items)
        return
    cluster = open_cluster(setting())
    place = _Place(str(Path.cwd()), plugins.own_folder(), code_lock.installed()["code"])
    pending: deque[Any] = deque()
    try:
        for first in range(0, len(items), size):
            work = pickle.dumps((function, items[first : first + size]))
            pending.append(cluster.submit(pickle.dumps((place, work))))
            if len(pending) >= _IN_HAND * cluster.workers:
                yield from _answer(cluster, pending)
        while pending:
            yield from _answer(cluster, pending)
    finally:
        cluster.cancel(pending)


def _answer(cluster: Cluster, pending: "deque[Any]") -> list[Any]:
    results, error = cluster.result(pending[0])
    pending.popleft()
    if error is not None:
        raise error
    return list(results)


def run_unit(unit: bytes) -> tuple[list[Any], Exception | None]:
    """Computes one unit, in a worker: its results, or what was raised; the engine itself sees no error of ours."""
    place, work = pickle.loads(unit)  # noqa: S301 - from the process that started the stage
    with _ALONE:
        try:
            _take(place)
            function, items = pickle.loads(work)  # noqa: S301 - likewise; after `_take`, which makes plugins known
            return [function(item) for item in items], None
        except Exception as error:
            error.add_note(f"in a worker on {socket.gethostname()}:\n{traceback.format_exc()}")
            return [], error


def _take(place: _Place) -> None:
    if not Path(place.folder).is_dir():
        raise MachineError(
            f"{VARIABLE}: a worker on {socket.gethostname()} does not see {place.folder}. Put the project on storage"
            " that all workers have at the same path"
        )
    if code_lock.installed()["code"] != place.code:
        raise MachineError(
            f"{VARIABLE}: a worker on {socket.gethostname()} has other code of isthmus in {code_lock.PACKAGE}, and"
            " would give other results. Install the same there, and start its workers again"
        )
    os.chdir(place.folder)
    plugins.use(place.plugins)


@lru_cache(maxsize=1)  # one cluster for all steps of a stage
def open_cluster(config: EngineConfig) -> Cluster:
    """Reaches or starts the cluster, which is left when this process ends.

    Raises:
        ConfigError: the engine is not installed.
        MachineError: the cluster cannot be reached.
    """
    module = of(config)
    cluster: Cluster = module.Engine(config)
    atexit.register(cluster.close)
    return cluster


def of(config: EngineConfig) -> ModuleType:
    """Returns the module of an engine, whose cluster answers if it has an address.

    Raises:
        ConfigError: the engine is not installed.
        MachineError: the cluster does not answer.
    """
    module = importlib.import_module(f"isthmus.core.engines.{config.name}")
    check_reachable(config.address, grpc=config.name == "ray")
    return module


def check_reachable(address: str, grpc: bool = False) -> None:
    """Checks that something listens at `[protocol://]host:port`; other forms, such as Ray's `auto`, pass.

    Args:
        address: of a cluster.
        grpc: whether it must answer as gRPC does; Ray itself would ask for minutes.

    Raises:
        MachineError: nothing does, or not in time.
    """
    host, _, port = address.rpartition("://")[2].rstrip("/").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), PATIENCE) as there:
            if grpc and os.environ.get("RAY_USE_TLS", "0") == "0":
                there.sendall(_HTTP2)
                if there.recv(9)[3:4] != b"\x04":
                    raise OSError("something else answers there")
    except (OSError, OverflowError) as error:
        raise unreachable(address, error) from None


def unreachable(address: str, error: Exception) -> MachineError:
    """Returns the error of a cluster that does not answer."""
    why = " ".join(str(error).split())[:200] or type(error).__name__
    return MachineError(
        f"{VARIABLE}: address={address}: no cluster answers ({why}). Start it, correct the address, or unset {VARIABLE}"
    )


def killed(engine: str) -> MachineError:
    """Returns the error of a unit whose workers were killed."""
    return MachineError(
        f"{VARIABLE}: the workers of {engine} that computed one unit were killed {RETRIES + 1} times, probably out of"
        " memory. Start fewer workers or give each more memory, then run the same command again: finished work is kept"
    )


def processors() -> int:
    """Returns how many processes may run side by side, at most eight."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)

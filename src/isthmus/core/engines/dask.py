"""Dask: distributed's scheduler and workers, at an address or started here. The only file that imports them."""

import asyncio
import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from isthmus.core.engine import PATIENCE, RETRIES, EngineConfig, killed, processors, run_unit, unreachable
from isthmus.core.errors import ConfigError
from isthmus.core.plugins import install_command

try:
    import dask
    from distributed import Client, KilledWorker, LocalCluster
    from distributed.comm.core import connect
except ImportError as error:
    raise ConfigError(f"ISTHMUS_ENGINE: dask needs '{error.name}': {install_command('dask')}") from None


class Engine:
    """See `core/engine.py: Cluster`."""

    def __init__(self, config: EngineConfig) -> None:
        dask.config.set({"distributed.scheduler.allowed-failures": RETRIES})
        self._cluster = None
        if not config.address:
            memory = "auto" if config.memory is None else f"{config.memory} GiB"
            with _without_interrupts():
                self._cluster = LocalCluster(
                    config.workers or processors(), threads_per_worker=1, processes=True, memory_limit=memory,
                    host="127.0.0.1", dashboard_address=None, silence_logs=logging.CRITICAL,
                )  # fmt: skip
        try:
            if config.address:
                asyncio.run(_greet(config.address))
            self._client = Client(self._cluster or config.address, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            raise unreachable(config.address, error) from None
        self.workers = max(1, len(self._client.nthreads()))

    def submit(self, unit: bytes) -> Any:
        """Sends a unit to the scheduler."""
        return self._client.submit(run_unit, unit, pure=False)

    def result(self, handle: Any) -> Any:
        """Waits for a unit."""
        try:
            return handle.result()
        except KilledWorker:
            raise killed("dask") from None

    def cancel(self, handles: Sequence[Any]) -> None:
        """Drops units."""
        self._client.cancel(list(handles))

    def close(self) -> None:
        """Leaves the scheduler; a cluster that was started here ends."""
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


async def _greet(address: str) -> None:
    """Exchanges greetings with a scheduler; `Client` waits for ever for those of another program."""
    greeted = await asyncio.wait_for(connect(address), PATIENCE)
    await greeted.close()


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started here ignore Ctrl-C: it goes to all of a terminal, and only the stage shall answer."""
    if threading.current_thread() is not threading.main_thread():  # which alone may say so
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

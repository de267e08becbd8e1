"""A process pool that keeps order, holds few results at a time, and dies with its parent."""

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import TypeVar

from isthmus.core import engine, plugins
from isthmus.core.errors import DataError

T = TypeVar("T")
R = TypeVar("R")
_WORTH_A_POOL = 256  # [image]; below it a pool takes longer to start than to work
_NETWORKS = "isthmus.models."


def in_order(
    function: Callable[[T], R],
    items: Sequence[T],
    workers: int,
    chunk: int = 16,
    long: bool = False,
    setting: str = "ingest.workers",
) -> Iterator[R]:
    """Yields `function(item)` of each item in the items' order, computed by several processes.

    Until the first worker is there, a second or so, this very process computes. At most three chunks a worker are under
    way or waiting, however slow the reader is. One worker, or few items, run in this very process: the results are the
    same. Where ISTHMUS_ENGINE names a distributed engine, its workers compute all (`core/engine.py`).

    Args:
        function: of an item; it and its results are pickled.
        items: in order.
        workers: processes.
        chunk: items that a worker gets at once.
        long: each item takes so long that two of them are worth processes, and this one computes none.
        setting: of `params.yaml`, which says how many workers there are.

    Raises:
        DataError: a worker was killed, probably out of memory.
    """
    if not engine.is_local():
        yield from engine.in_order(function, items, chunk)
        return
    if workers == 1 or len(items) < (2 if long else _WORTH_A_POOL):
        yield from map(function, items)
        return
    # Not fork: the parent has threads (Arrow, BLAS), and a forked child can hang on a lock that one of them held.
    # A fork server imports the modules once, so that it is not slower than fork where it exists.
    start = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(start)
    context.set_forkserver_preload(_modules(function))
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(plugins.own_folder(),))
    starter = ThreadPoolExecutor(1)  # to ask for the first worker waits until it is there
    pending: deque[Future[list[R]]] = deque()
    done = 0
    try:
        ready = starter.submit(lambda: pool.submit(int).result())
        while not long and done < len(items) and not ready.done():
            yield function(items[done])
            done += 1
        ready.result()
        for begin in range(done, len(items), chunk):
            pending.append(_submitted(pool, _each, function, items[begin : begin + chunk]))
            if len(pending) >= 3 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    except BrokenProcessPool:
        raise DataError(
            f"a worker process was killed, probably out of memory. Set '{setting}: 1' or free some memory"
        ) from None
    except BaseException:
        for child in multiprocessing.active_children() if long else []:
            child.terminate()  # else an interrupt of this process alone, or an error, would wait for what they compute
        raise
    finally:
        starter.shutdown(wait=True)
        pool.shutdown(wait=True, cancel_futures=True)


def _submitted(pool: ProcessPoolExecutor, call: Callable[..., R], *arguments: object) -> Future[R]:
    """Hands a call to the pool, which may start one more worker for it.

    Raises:
        BrokenProcessPool: also where the pool was given up, because a worker had been killed, while that one started:
            the standard library then raises an OSError without an error number, for its queue is closed.
    """
    try:
        return pool.submit(call, *arguments)
    except OSError as failure:
        if failure.errno is not None:
            raise
        raise BrokenProcessPool(str(failure)) from failure


def _modules(function: Callable[[T], R]) -> list[str]:
    """Returns what every worker needs: the function's module and what a module started with `python -m` has imported.

    Each worker runs that module once more, as multiprocessing does with every main module. Left to itself the server
    imports none of it, and each worker all; were the module itself among these, `runpy` would warn of it each time.
    Modules of `models` stay out unless that one imports them: torch would be 120 MB in each process that decodes.
    """
    called = function.func if isinstance(function, partial) else function
    package = called.__module__.partition(".")[0]
    started = getattr(sys.modules["__main__"], "__spec__", None)
    if started is None or not started.name.startswith(f"{package}."):
        return [called.__module__]
    own = (name for name in sys.modules if name.startswith(f"{package}.") and not f"{name}.".startswith(_NETWORKS))
    return sorted({called.__module__, *own} - {started.name})


def _each(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    return [function(item) for item in items]


def _begin(own_plugins: Path | None) -> None:
    plugins.use(own_plugins)
    # A worker holds both ends of its queue, so it would wait for ever when the parent is killed with SIGKILL.
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()

"""The process of a served model as the server sees it: started, asked, and killed where it takes too long."""

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from isthmus.core.errors import StoreError
from isthmus.core.progress import log
from isthmus.serving.request_limits import Limits, RefusedError

_LONGEST_ANSWER = 2**26  # [byte] of one line
# Requests computed at once. On two processors two side by side take 9 to 10 images a second of a ViT-S/14, what waits
# merged into one batch 4 to 7, one after another 8 (docs/log.md).
LANES = min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
Answer = tuple[int, Any]  # HTTP status; rows, or why there are none


@dataclass
class _Asked:
    body: list[bytearray]
    answer: "asyncio.Future[Answer]"

    def give(self, status: int, found: Any) -> None:
        if not self.answer.done():
            self.answer.set_result((status, found))


class ModelProcess:
    """One model in one process, asked by many clients in the order in which they came, `LANES` at a time.

    Args:
        command: starts it, in this process's environment; `serving_process.py` says what it reads and writes.
        limits: of requests.

    Attributes:
        loaded: whether it can be asked.
    """

    def __init__(self, command: Sequence[str], limits: Limits) -> None:
        self._command = command
        self._limits = limits
        self._waiting: deque[_Asked] = deque()
        self._arrived = asyncio.Condition()
        self.loaded = False

    async def ask(self, body: list[bytearray]) -> "asyncio.Future[Answer]":
        """Returns the answer to come; a cancelled request is not computed unless it has begun.

        Args:
            body: of the request, in blocks; it may be checked for nothing but its size.

        Raises:
            RefusedError: there is no model just now, or too many are waiting.
        """
        if not self.loaded:
            raise RefusedError(503, "the model is being loaded. Try again")
        self._waiting = deque(asked for asked in self._waiting if not asked.answer.done())
        if len(self._waiting) >= self._limits.waiting:
            waiting = f"{len(self._waiting)} requests are waiting already. Try again"
            raise RefusedError(503, waiting, **{"retry-after": "1"})
        asked = _Asked(body, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        async with self._arrived:
            self._arrived.notify()
        return asked.answer

    async def run(self, name: str) -> None:
        """Keeps the model loaded and answers, until it is cancelled.

        Raises:
            StoreError: the model cannot be loaded.
        """
        while True:
            child = await asyncio.create_subprocess_exec(*self._command, limit=_LONGEST_ANSWER, stdin=PIPE, stdout=PIPE)
            try:
                assert child.stdout
                if not await child.stdout.readline():
                    raise StoreError(f"{name}: its process ended with status {await child.wait()} while it was loaded")
                log(f"serve: {name} is loaded")
                self.loaded = True
                await self._answer(child)
                log("serve: the model's process is started again")
            finally:
                self.loaded = False
                with suppress(ProcessLookupError):
                    child.kill()
                await child.wait()

    async def _answer(self, child: Process) -> None:
        """Answers until the process has ended or must be."""
        replies: dict[int, asyncio.Future[Answer]] = {}
        tasks = [asyncio.create_task(self._lane(lane, child, replies)) for lane in range(LANES)]
        tasks.append(asyncio.create_task(self._read(child, replies)))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.loaded = False
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, child: Process, replies: "dict[int, asyncio.Future[Answer]]") -> None:
        assert child.stdout
        while line := await child.stdout.readline():
            lane, status, found = json.loads(line)
            replies.pop(lane).set_result((status, found))

    async def _lane(self, lane: int, child: Process, replies: "dict[int, asyncio.Future[Answer]]") -> None:
        """Sends one request after another; returns where one took too long."""
        assert child.stdin
        while True:
            asked = await self._next()
            replies[lane] = reply = asyncio.get_running_loop().create_future()
            why = "ended the model's process, which is started again"
            try:
                child.stdin.write(json.dumps([lane, sum(map(len, asked.body))]).encode() + b"\n")
                for block in asked.body:
                    child.stdin.write(block)
                async with asyncio.timeout(self._limits.seconds):
                    asked.give(*await reply)
            except TimeoutError:
                why = f"took longer than {self._limits.seconds} s and was stopped"
                return
            finally:
                asked.give(503, f"the answer {why}. Send fewer or smaller images")

    async def _next(self) -> _Asked:
        while True:
            async with self._arrived:
                await self._arrived.wait_for(lambda: self._waiting)
                asked = self._waiting.popleft()
            if not asked.answer.done():  # else the client is gone
                return asked

"""Heritage: the streams of an earlier pool that fall to one buffer. They are counted, poured to their end, and told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from actors.backlog import Backlog
from actors.core.batching import Entry
from actors.core.errors import LogUnavailable
from actors.core.ports import Clock, WriteLog
from actors.core.position import accepted_s
from actors.outflow import Outflow

_PAGE = 200  # entries of an inherited stream held in memory at once
_PAGE_BYTES = 16 << 20  # or so many, and what the last entry has beyond
_PAUSE_S = 0.2
T = TypeVar("T")


class Left(NamedTuple):
    """So many writes and bytes, and when the oldest was accepted (wall clock); None when there is none."""

    writes: int
    bytes: int
    oldest_s: float | None


class Heritage:
    """Nothing is added to these streams any more once this is their owner."""

    def __init__(
        self, logs: Sequence[WriteLog], outflow: Callable[[WriteLog, Backlog], Outflow], clock: Clock
    ) -> None:
        """`outflow` makes what pours a backlog of a log."""
        self.emptied = asyncio.Event()
        self._logs = list(logs)
        self._outflow = outflow
        self._clock = clock
        self._is_counted = not logs
        self._is_patient = True
        self._later_writes = 0  # behind the page in hand
        self._later_bytes = 0
        self._oldest_s: float | None = None
        self._page = Backlog()
        self._pouring: Outflow | None = None  # the page
        self._waits_for = ""  # a log, and why
        if not logs:
            self.emptied.set()

    @property
    def left(self) -> Left | None:
        """What is still to be poured; None until it has been counted."""
        if not self._is_counted:
            return None
        page = self._page
        oldest_s = page.oldest.accepted_s if page.oldest else self._oldest_s
        return Left(self._later_writes + page.open_writes, self._later_bytes + page.open_bytes, oldest_s)

    @property
    def last_error(self) -> str:
        """Why it waits for a log, or for MongoDB."""
        return self._waits_for or (self._pouring.last_error if self._pouring else "")

    def of(self, stream: str) -> WriteLog | None:
        """The log of this name, if it is one of these."""
        return next((log for log in self._logs if log.stream == stream), None)

    async def pour(self, *, is_patient: bool = True) -> None:
        """Returns when MongoDB's Reports have named all of it. Raises what ends an outflow, and `LogUnavailable` where
        it is not to wait for a log that is away, or that holds what this version cannot read."""
        self._is_patient = is_patient
        for log in self._logs:
            await self._patiently(log.open)
        self._oldest_s = await self._patiently(self._count)
        self._is_counted = True
        for log in self._logs:
            while page := await self._patiently(partial(_page, log, self._clock.wall_s())):
                await self._pour_page(log, page)
        self._later_writes = self._later_bytes = 0
        self._oldest_s = None
        self.emptied.set()

    async def _count(self) -> float | None:
        """Read all of it once. Returns when its oldest was accepted."""
        writes = size = 0
        oldest_s = None
        for log in self._logs:
            async for logged in log.replay():
                writes += len(logged.writes(log.stream))
                size += len(logged.payload)
                at_s = accepted_s(logged.position, self._clock.wall_s())
                oldest_s = at_s if oldest_s is None else min(oldest_s, at_s)
        self._later_writes, self._later_bytes = writes, size
        return oldest_s

    async def _pour_page(self, log: WriteLog, page: list[Entry]) -> None:
        self._page = backlog = Backlog()
        self._pouring = outflow = self._outflow(log, backlog)
        for entry in page:
            backlog.add(entry)
        self._later_writes -= backlog.open_writes
        self._later_bytes -= backlog.open_bytes
        pouring = asyncio.create_task(outflow.run())
        emptied = asyncio.create_task(self._until_empty(backlog, outflow))
        try:
            await asyncio.wait({pouring, emptied}, return_when=asyncio.FIRST_COMPLETED)
            if pouring.done():
                pouring.result()  # only a fault ends it
        finally:
            pouring.cancel()
            emptied.cancel()

    async def _until_empty(self, backlog: Backlog, outflow: Outflow) -> None:
        await outflow.wait_for(backlog.last_position, float(1 << 31))
        while len(backlog):
            await self._clock.sleep(0.01)

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                answer = await ask()
            except LogUnavailable as error:
                if not self._is_patient:
                    raise
                self._waits_for = str(error)
                await self._clock.sleep(_PAUSE_S)
            else:
                self._waits_for = ""
                return answer


async def _page(log: WriteLog, now_s: float) -> list[Entry]:
    page: list[Entry] = []
    size = 0
    async for logged in log.replay():
        at_s = accepted_s(logged.position, now_s)
        page.append(Entry(logged.position, logged.writes(log.stream), len(logged.payload), at_s))
        size += len(logged.payload)
        if len(page) == _PAGE or size >= _PAGE_BYTES:
            break
    return page

"""Watch: many requests waiting for MongoDB, one call to the buffer."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

from actors.calls import Remote
from actors.core.errors import SpillwayError
from actors.core.ports import Resolved
from actors.core.position import order

_POLL_S = 5.0


class Watch:
    """A stream is resolved in order, so one question for the oldest awaited position serves all who wait."""

    def __init__(self, buffer: Remote) -> None:
        self._buffer = buffer
        self._waiting: list[tuple[tuple[int, int], int, str, asyncio.Future[Resolved]]] = []
        self._ticket = count()
        self._asking: asyncio.Task[None] | None = None
        self._last: Resolved | None = None

    async def until(self, position: str, timeout_s: float) -> Resolved | None:
        """How far the stream is once `position` is resolved; None when the time is up before."""
        if self._last is not None and order(position) <= order(self._last.position):
            return self._last  # and not behind a newer one, which somebody else waits for
        answer: asyncio.Future[Resolved] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (order(position), next(self._ticket), position, answer))
        if self._asking is not None and self._waiting[0][3] is answer:
            self._asking.cancel()  # it asks for a newer one, and is told of this one as late
            self._asking = None
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            return None

    async def _ask(self) -> None:
        while self._waiting:
            if self._waiting[0][3].done():  # timed out
                heapq.heappop(self._waiting)
                continue
            try:
                resolved: Resolved = await self._buffer.call(
                    "wait_for", self._waiting[0][2], _POLL_S, timeout_s=_POLL_S + 2.0
                )
            except SpillwayError:
                await asyncio.sleep(0.1)  # it is being restarted
                continue
            self._last = resolved
            while self._waiting and self._waiting[0][0] <= order(resolved.position):
                answer = heapq.heappop(self._waiting)[3]
                if not answer.done():
                    answer.set_result(resolved)

"""Watch: many requests waiting for MongoDB, one call to the buffer."""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass

from actors.calls import Remote
from actors.core.errors import SpillwayError
from actors.core.ports import Resolved
from actors.core.position import order

_POLL_S = 5.0


@dataclass(slots=True, eq=False)
class _Place:
    """One, however many wait for it and however often: those of a stream are bounded by its backlog, who waits by
    nothing."""

    answer: asyncio.Future[Resolved]
    waiters: int = 0


class Watch:
    """A stream is resolved in order, so one question for the oldest awaited position serves all who wait."""

    def __init__(self, buffer: Remote) -> None:
        self._buffer = buffer
        self._places: dict[str, _Place] = {}  # by position
        self._line: list[tuple[tuple[int, int], str]] = []  # their positions, a heap
        self._asking: asyncio.Task[None] | None = None
        self._last: Resolved | None = None

    async def until(self, position: str, timeout_s: float) -> Resolved | None:
        """How far the stream is once `position` is resolved; None when the time is up before."""
        if self._last is not None and order(position) <= order(self._last.position):
            return self._last  # and not behind a newer one, which somebody else waits for
        place = self._places.get(position)
        if place is None:
            place = self._places[position] = _Place(asyncio.get_running_loop().create_future())
            try:
                heapq.heappush(self._line, (order(position), position))
            except MemoryError:  # or nobody would ever ask for it
                del self._places[position]
                raise
            if self._asking is not None and self._line[0][1] == position:
                self._asking.cancel()  # it asks for a newer one, and is told of this one as late
                self._asking = None
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        place.waiters += 1
        try:
            await asyncio.wait({place.answer}, timeout=timeout_s)
        finally:
            place.waiters -= 1
        return place.answer.result() if place.answer.done() else None

    async def _ask(self) -> None:
        while self._line:
            _, position = self._line[0]
            if not self._places[position].waiters:  # their time is up
                self._pop()
                continue
            try:
                resolved: Resolved = await self._buffer.call("wait_for", position, _POLL_S, timeout_s=_POLL_S + 2.0)
            except SpillwayError:
                await asyncio.sleep(0.1)  # it is being restarted
                continue
            self._last = resolved
            while self._line and self._line[0][0] <= order(resolved.position):
                self._pop().answer.set_result(resolved)

    def _pop(self) -> _Place:
        return self._places.pop(heapq.heappop(self._line)[1])

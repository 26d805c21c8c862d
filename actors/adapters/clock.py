"""The clock of this machine, and one that tests set by hand."""

from __future__ import annotations

import asyncio
import heapq
import time
from itertools import count

from actors.core.pacing import SECOND_NS


class SystemClock:
    """Satisfies `Clock`. Its monotonic time goes on while the process is stopped, and while the machine sleeps: a woken
    writer knows that it was. Where a hypervisor stops the machine, no clock in it knows."""

    def now_ns(self) -> int:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def wall_s(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualClock:
    """Time that passes only when told to. Satisfies `Clock`."""

    def __init__(self) -> None:
        self._now_ns = 0
        self._wall_offset_s = 1_800_000_000.0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._ticket = count()

    def now_ns(self) -> int:
        return self._now_ns

    def wall_s(self) -> float:
        return self._wall_offset_s + self._now_ns / SECOND_NS

    async def sleep(self, seconds: float) -> None:
        awake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_ns + round(seconds * SECOND_NS), next(self._ticket), awake))
        await awake

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator or NTP does; monotonic time does not notice."""
        self._wall_offset_s += seconds

    async def advance(self, seconds: float) -> None:
        """Let time pass, waking every sleeper at its moment and letting it act before time goes on."""
        target = self._now_ns + round(seconds * SECOND_NS)
        await settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            due, _, awake = heapq.heappop(self._sleepers)
            self._now_ns = max(self._now_ns, due)
            if not awake.done():
                awake.set_result(None)
                await settle()
        self._now_ns = target
        await settle()


async def settle(most_turns: int = 10_000) -> None:
    """Let every task that can go on without time passing do so. Raises `RuntimeError` when they never come to rest."""
    ready = getattr(asyncio.get_running_loop(), "_ready", None)  # asyncio's own loop tells; another gets 50 turns
    for turn in range(most_turns):
        await asyncio.sleep(0)
        if not ready if ready is not None else turn >= 50:
            return
    raise RuntimeError("some task spins without waiting for anything")

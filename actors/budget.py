"""Budget: the one gate through which every command to MongoDB passes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from actors.core.pacing import SECOND_NS, CompletionRing, WindowGauge, cost_of
from actors.core.ports import Clock

_RIGHT_S = 0.05  # between two looks whether the right to send has come back


class Budget:
    """Hands out permits so that no window of one second holds more than `limit` commands at the server.

    `lanes` slots are kept back: if this process dies, that many commands may still be executed while the next writer
    already counts from zero; where bytes count, as many slots for each of them as a command can cost. While the outcome
    of any command is unknown no permit is given at all, until the server answers again and `operation_s` has passed: by
    then it has itself ended what was left behind, so that at most `lanes` such commands exist however long it hangs.
    """

    def __init__(
        self, limit: int, lanes: int, operation_s: float, clock: Clock, operation_bytes: int = 0, max_bytes: int = 0
    ) -> None:
        """`operation_s`: the longest a command can go on at the server after its sender gave up on it.
        `operation_bytes`: how many bytes count as one; 0: a command counts as one. `max_bytes`: of a command.
        """
        self.limit = limit
        self.operation_s = operation_s
        self.gauge = WindowGauge()
        self._clock = clock
        self._operation_ns = int(operation_s * SECOND_NS)
        self._operation_bytes = operation_bytes
        self._slots = limit - lanes * cost_of(max_bytes, operation_bytes)
        self._ring = CompletionRing(self._slots)
        self._unknown = 0
        self._hold_until = 0
        self._doubt_until = 0
        self._turn = asyncio.Lock()  # permits are given in the order asked
        self._changed = asyncio.Event()

    def cost(self, size: int) -> int:
        """What a command that carries `size` bytes of documents costs; at most all that is given in a second.

        A write accepted under other settings may be dearer than that: it would wait for ever, and all others behind it.
        """
        return min(cost_of(size, self._operation_bytes), self._slots)

    async def take(self, may_send: Callable[[], bool], cost: int = 1) -> None:
        """Wait for a permit. It must be given back by exactly one of `complete`, `unsent`, `unknown`.

        `may_send` is asked in the instant in which the permit is given: whoever was stopped while waiting may have lost
        the right meanwhile.
        """
        async with self._turn:
            while True:
                now = self._clock.now_ns()
                wait = self._ring.wait_ns(now, cost)
                if wait is None or self._unknown:
                    self._changed.clear()
                    await self._changed.wait()
                    continue
                wait = max(wait, self._hold_until - now)
                if wait <= 0 and may_send():
                    self._ring.admit(now, cost)
                    return
                await self._clock.sleep(wait / SECOND_NS if wait > 0 else _RIGHT_S)

    def complete(self, cost: int = 1) -> None:
        """The command was answered just now."""
        now = self._clock.now_ns()
        self.gauge.note(now)
        self._ring.complete(now, cost)
        self._changed.set()

    def unsent(self, cost: int = 1) -> None:
        """The command never left this process."""
        self._ring.cancel(self._clock.now_ns(), cost)
        self._changed.set()

    def unknown(self, cost: int = 1) -> None:
        """The command left and nobody knows what became of it; the gate closes until `settle`."""
        self.gauge.note(self._clock.now_ns())
        self._unknown += cost

    def settle(self) -> None:
        """The server answers again: what is unknown will have ended once the longest operation time has passed."""
        end = self._clock.now_ns() + self._operation_ns
        if self._unknown:
            self._ring.complete(end, self._unknown)
            self._hold_until = max(self._hold_until, end)
            self._doubt_until = max(self._doubt_until, end)
        self._unknown = 0
        self._changed.set()

    def spent(self) -> dict[str, int]:
        """Commands in the last second and in the worst one since the start, as they were seen to end, and the limit."""
        last = self.gauge.last(self._clock.now_ns())
        return {"last_second": last, "worst_window": self.gauge.worst, "limit": self.limit}

    def quarantine(self, under_way_s: float) -> None:
        """A writer before this one may have filled the last second; and for `under_way_s`, which depends on its
        settings and not on ours, commands that it has left behind may be executed yet (0: it left none)."""
        now = self._clock.now_ns()
        hold_ns = SECOND_NS + int(under_way_s * SECOND_NS)
        self._hold_until = max(self._hold_until, now + hold_ns)
        if under_way_s:
            self._doubt_until = max(self._doubt_until, now + hold_ns)

    @property
    def has_unknown(self) -> bool:
        """Is there a command of which nobody knows, since the server has not answered again?"""
        return self._unknown > 0

    @property
    def in_doubt(self) -> bool:
        """May some command, of this writer or of the one before, still be executed without anybody waiting for it?"""
        return self.has_unknown or self._clock.now_ns() < self._doubt_until

    @property
    def held_s(self) -> float:
        """Seconds until the gate opens again after a start or an unknown outcome; 0 when it is open."""
        return max(0.0, (self._hold_until - self._clock.now_ns()) / SECOND_NS)

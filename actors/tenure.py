"""Tenure: the time in which this process is the one that may send."""

from __future__ import annotations

from actors.core.errors import Fenced, LogUnavailable
from actors.core.pacing import SECOND_NS
from actors.core.ports import Clock, Lease


class Tenure:
    """Takes the lease, renews it, and knows at every instant whether it still holds.

    It is judged by this process' monotonic clock from *before* each renewal, so it ends here before it ends in the
    lease itself; a process that was stopped for a while finds it over when it wakes.
    """

    def __init__(self, lease: Lease, clock: Clock) -> None:
        self.epoch = 0  # 0 until taken; every owner has a higher one than all before it
        self.note = ""  # why it is not held, for people
        self._lease = lease
        self._clock = clock
        self._until_ns = 0
        self._alone_ns = 0  # from then on nothing of the owners before is under way

    @property
    def holds(self) -> bool:
        return self._clock.now_ns() < self._until_ns

    async def begin(self) -> float:
        """Wait for the lease and take it. Returns for how many seconds yet commands of the owners before may be
        executed: 0 when the last one gave it back, so that nothing is under way."""
        while True:
            asked_ns = self._clock.now_ns()
            try:
                grant = await self._lease.acquire()
                if grant:
                    self.epoch = grant.epoch
                    self._extend(asked_ns)
                    self._alone_ns = self._clock.now_ns() + int(grant.under_way_s * SECOND_NS)
                    return grant.under_way_s
                self.note = "another writer holds the lease"
            except LogUnavailable as error:
                self.note = str(error)
            await self._clock.sleep(0.1)

    async def hold(self) -> None:
        """Renew until cancelled. Raises `Fenced` when another owner has begun. While the log is away the tenure just
        runs out."""
        while True:
            await self._clock.sleep(self._lease.ttl_s / 3)
            asked_ns = self._clock.now_ns()
            try:
                if not await self._lease.renew(alone=asked_ns >= self._alone_ns):
                    raise Fenced("another writer has taken over")
                self._extend(asked_ns)
            except LogUnavailable as error:
                self.note = str(error)

    async def end(self) -> None:
        """Give the lease back. Only with nothing under way and nothing in doubt."""
        self._until_ns = 0
        if self.epoch:
            await self._lease.release()

    def _extend(self, asked_ns: int) -> None:
        self._until_ns = asked_ns + int(self._lease.ttl_s * SECOND_NS)
        self.note = ""

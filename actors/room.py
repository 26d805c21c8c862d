"""Room: how much of a buffer's bounds is in use, by its backlog and by the calls that wait for the log."""

from __future__ import annotations

from actors.appends import Bounds, Call
from actors.backlog import Backlog
from actors.core.errors import QueueFull
from actors.core.rates import RateMeter, pause_s, retry_after_s

_REOPEN_AT = 0.8  # of the bound: a buffer that was full takes new writes again only below this


class Room:
    """Full at the bound, and then until what is held is well below it: no flapping at the edge.

    An empty buffer takes any call, or one that is larger than the bound would be told to come again for ever.
    """

    def __init__(self, bounds: Bounds, backlog: Backlog, drained: RateMeter) -> None:
        """`drained` measures the outflow, for how long callers should stay away."""
        self.waiting_writes = 0
        self._bounds = bounds
        self._backlog = backlog
        self._drained = drained
        self._waiting_bytes = 0
        self._full = False

    def is_full(self, writes: int = 0, size: int = 0) -> bool:
        """Is there none for `writes` and `size` bytes more?"""
        held = self._fill()
        if self._full:
            self._full = held > _REOPEN_AT
        if not self._full:
            self._full = held > 0 and self._fill(writes, size) > 1.0
        return self._full

    def refusal(self, writes: int, size: int, now: int) -> QueueFull:
        """What a caller is told for whom there is none."""
        held = self._backlog.writes + self.waiting_writes + writes
        excess = held * (1 - _REOPEN_AT / self._fill(writes, size))  # in writes, whichever bound is the tighter
        wait_s = retry_after_s(excess, self._drained.per_s(now))
        return QueueFull(f"{self._backlog.writes} writes ({self._backlog.bytes} bytes) wait for MongoDB", wait_s)

    def pause_s(self, now: int) -> float:
        """Seconds for each write that callers should pause."""
        return pause_s(self._fill(), self._drained, now)

    def take(self, call: Call) -> None:
        """It waits for the log from now on."""
        self.waiting_writes += call.writes
        self._waiting_bytes += call.bytes

    def give_back(self, calls: list[Call]) -> None:
        """These are over; from now on only the backlog counts them."""
        self.waiting_writes -= sum(call.writes for call in calls)
        self._waiting_bytes -= sum(call.bytes for call in calls)

    def _fill(self, writes: int = 0, size: int = 0) -> float:
        """Share of the tighter bound that would be in use with `writes` and `size` bytes more."""
        held = self._backlog.writes + self.waiting_writes + writes
        held_bytes = self._backlog.bytes + self._waiting_bytes + size
        return max(held / self._bounds.max_writes, held_bytes / self._bounds.max_bytes)

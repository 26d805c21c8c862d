"""When may the next command leave? Arithmetic only: nanoseconds come in as arguments, nobody waits here."""

from __future__ import annotations

import heapq
from collections import deque

SECOND_NS = 1_000_000_000


def cost_of(size: int, operation_bytes: int) -> int:
    """Slots that a command of `size` bytes takes when one stands for `operation_bytes`; one for each command when that
    is 0."""
    return max(1, -(-size // operation_bytes)) if operation_bytes else 1


class CompletionRing:
    """At most `slots` commands reach the server in any window of `window_ns`, and they leave evenly.

    A slot is busy from the moment its command is admitted until the window has passed since that command
    was *seen to end*. Two commands of one slot are therefore executed at least one window apart at the server,
    whatever the network does in between and without any agreement of clocks; so each slot gives at most one
    execution to any window, and `slots` slots at most `slots`. A command that costs more than one holds that many slots
    for the same time, so it is the sum of the costs that is bounded.

    Why not a token bucket: a full one lets almost twice its depth through in one window. Why not a log of start
    times: what started a window ago may still be under way. The guarantee ends where a process dies with commands
    in flight; the owner of the ring keeps some slots back for those (`Budget`).
    """

    def __init__(self, slots: int, window_ns: int = SECOND_NS, pace_ns: int | None = None) -> None:
        """`pace_ns` is the least distance between two admissions; by default the slots are spread over one window."""
        if slots < 1 or window_ns < 1:
            raise ValueError("a ring needs at least one slot and a window above zero")
        self.slots = slots
        self.window_ns = window_ns
        self.pace_ns = window_ns // slots if pace_ns is None else pace_ns
        self._free_at: list[int] = [-(1 << 62)] * slots  # heap: when each idle slot may be used again
        self._not_before = -(1 << 62)

    def wait_ns(self, now: int, cost: int = 1) -> int | None:
        """Nanoseconds until a command may be admitted, 0 for at once; None while too many slots' outcomes are open."""
        if cost > len(self._free_at):
            return None
        free_at = self._free_at[0] if cost == 1 else heapq.nsmallest(cost, self._free_at)[-1]
        return max(0, free_at - now, self._not_before - now)

    def admit(self, now: int, cost: int = 1) -> None:
        """Take `cost` slots. Only after `wait_ns(now, cost) == 0`; raises `RuntimeError` otherwise."""
        if self.wait_ns(now, cost) != 0:
            raise RuntimeError("admitted a command before its time")
        for _ in range(cost):
            heapq.heappop(self._free_at)
        self._not_before = now + self.pace_ns * cost

    def complete(self, end: int, cost: int = 1) -> None:
        """An admitted command ended at `end` at the latest, as its sender saw it."""
        self._give_back(end + self.window_ns, cost)

    def cancel(self, now: int, cost: int = 1) -> None:
        """An admitted command was never sent: its slots are free at once."""
        self._give_back(now, cost)

    def _give_back(self, free_at: int, cost: int) -> None:
        if len(self._free_at) + cost > self.slots:
            raise RuntimeError("gave back a slot that was not taken")
        for _ in range(cost):
            heapq.heappush(self._free_at, free_at)


class WindowGauge:
    """Commands in the last second and in the worst second so far, by the instants they were seen to end.

    It tells an operator what happened; it limits nothing.
    """

    def __init__(self) -> None:
        self._ends: deque[int] = deque(maxlen=100_000)  # bounds its memory
        self.worst = 0

    def note(self, end: int) -> None:
        self._ends.append(end)
        self.worst = max(self.worst, self.last(end))

    def last(self, now: int) -> int:
        """Commands in the second that ends at `now`."""
        while self._ends and self._ends[0] <= now - SECOND_NS:
            self._ends.popleft()
        return len(self._ends)


def backoff_s(attempt: int, most_s: float = 2.0) -> float:
    """Pause before attempt number `attempt` (1 is the first repetition): doubling from 50 ms, never above `most_s`."""
    return float(min(most_s, 0.05 * 2 ** min(attempt - 1, 30)))

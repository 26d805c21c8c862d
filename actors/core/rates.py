"""How fast something happens, measured over the last seconds."""

from __future__ import annotations

from collections import deque

from actors.core.pacing import SECOND_NS

_WINDOW_NS = 5 * SECOND_NS
_BIN_NS = SECOND_NS // 10
_LEAST_NS = SECOND_NS  # what happened in less is no rate yet
_EASY_UNTIL = 0.5
_STEP = 0.2


class RateMeter:
    """Events per second over the last five seconds, or since they began if that is less: a drain that has just begun
    has the rate it has, not the mean of that and the silence before. Memory is bounded by one number per tenth of a
    second."""

    def __init__(self) -> None:
        self._bins: deque[tuple[int, int]] = deque()  # (bin number, events)
        self.total = 0

    def note(self, now: int, events: int) -> None:
        self.total += events
        number = now // _BIN_NS
        if self._bins and self._bins[-1][0] == number:
            self._bins[-1] = (number, self._bins[-1][1] + events)
        else:
            self._bins.append((number, events))
        self._forget(now)

    def per_s(self, now: int) -> float:
        """0.0 when nothing happened in the window."""
        self._forget(now)
        if not self._bins:
            return 0.0
        since = max(now - _WINDOW_NS, self._bins[0][0] * _BIN_NS)
        return sum(events for _, events in self._bins) * SECOND_NS / max(_LEAST_NS, now - since)

    def _forget(self, now: int) -> None:
        oldest = -((_WINDOW_NS - now) // _BIN_NS)  # the first bin that is wholly inside
        while self._bins and self._bins[0][0] < oldest:
            self._bins.popleft()


def retry_after_s(excess: float, drained_per_s: float) -> float:
    """How long a refused caller should wait until `excess` writes have been drained: 1 to 60 s."""
    if excess <= 0:
        return 1.0
    if drained_per_s <= 0:
        return 5.0  # nothing moves just now, so there is no better guess than "look again soon"
    return max(1.0, min(60.0, excess / drained_per_s))


def pause_s(fill: float, drained: RateMeter, now: int) -> float:
    """Seconds for each write that a caller should pause, so that a flood is slowed down before it has to be refused.

    `fill` is the share of the bound in use. Up to a half of it nobody is slowed down; at 70 % a single caller appends
    as much as is drained, two do at 78 %. While nothing is drained a pause would only put off the refusal: none then.
    """
    per_s = drained.per_s(now) if fill > _EASY_UNTIL else 0.0
    return ((fill - _EASY_UNTIL) / _STEP) ** 2 / per_s if per_s > 0 else 0.0

"""Arrivals: which calls are in the log already, so that one that is asked again is not kept again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from actors.core.position import order

_KNOWN_MS = 600_000  # of the log's own clock: ten times as long as any replica asks again
_LANES = 500  # at most: the one longest silent goes first. A lane is as old as its replica, of which there are few


class LaneCall(NamedTuple):
    """A call to a buffer, by which it is known again when it comes a second time."""

    lane: str  # whose call it is: one caller, which has one call under way at a time
    number: int  # higher than that of every call of this lane before
    writes: int  # plain ones: that many of an entry's writes are this call's


class _Arrival(NamedTuple):
    number: int  # of the call
    position: str
    first: int


_NEVER = _Arrival(-1, "", 0)


class Arrivals:
    """The last call of each lane. One that is older than that, its lane has given up: it sends one after the other."""

    def __init__(self) -> None:
        self._last: dict[str, _Arrival] = {}  # by lane, the one longest silent first

    @classmethod
    def loads(cls, text: bytes) -> Arrivals:
        """What `dumps` gave. Raises `ValueError` for anything else."""
        arrivals = cls()
        try:
            arrivals._last = {lane: _Arrival(*last) for lane, last in json.loads(text).items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise ValueError(f"no calls by their lanes: {error}") from error
        return arrivals

    def dumps(self) -> bytes:
        return json.dumps(self._last).encode()

    def note(self, position: str, calls: Sequence[LaneCall]) -> None:
        """The entry at `position` has the writes of these calls, in this order."""
        first = 0
        for lane, number, writes in calls:
            self._last[lane] = max(self._last.pop(lane, _NEVER), _Arrival(number, position, first))
            first += writes
        forgotten_ms = order(position)[0] - _KNOWN_MS
        while self._last:
            lane, longest_silent = next(iter(self._last.items()))
            if len(self._last) <= _LANES and order(longest_silent.position)[0] >= forgotten_ms:
                break
            del self._last[lane]

    def place(self, call: LaneCall) -> tuple[str, int] | None:
        """See `WriteLog.place`."""
        last = self._last.get(call.lane, _NEVER)
        if last.number < call.number:
            return None
        return (last.position, last.first) if last.number == call.number else ("", 0)

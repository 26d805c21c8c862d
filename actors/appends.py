"""Appends: what a caller wants kept, within which bounds, and what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from actors.core.arrivals import LaneCall
from actors.core.document import Write
from actors.core.ports import Keyed, KeyedAnswer


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one buffer holds, and how long it tries."""

    max_writes: int
    max_bytes: int
    group_writes: int  # one log entry at most, unless a single call is larger
    group_bytes: int
    patience_s: float  # how long an append of unknown outcome is tried again


@dataclass(frozen=True, slots=True)
class Kept:
    """Durable. `first` is the index of the caller's first plain write inside the entry at `position`.

    `pause_s`: so long for each of these writes the caller should send nothing; 0 unless the buffer is filling.
    """

    position: str
    first: int
    keyed: list[KeyedAnswer]
    pause_s: float = 0.0


@dataclass(slots=True, eq=False)
class Call:
    sent: LaneCall
    payload: bytes
    plain: list[Write]
    keyed: Sequence[Keyed]
    keyed_writes: list[list[Write]]
    since_ns: int
    answer: asyncio.Future[Kept]

    @property
    def writes(self) -> int:
        return len(self.plain) + sum(map(len, self.keyed_writes))

    @property
    def bytes(self) -> int:
        return len(self.payload) + sum(len(item.payload) for item in self.keyed)

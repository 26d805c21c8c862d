"""Unread: answers that their callers do not take."""

from __future__ import annotations

import asyncio

PATIENCE_S = 60.0  # as long as a body has to come
_LEAST_BYTES = 64 * 1024  # that leave in that time: who reads slower holds memory and no more
MAX_TOGETHER_BYTES = 256 * 1024 * 1024


class Unread:
    """What does not fit into a socket lies in this process until its caller reads on. Whoever never does would keep
    that memory for ever, as often as there are connections: so it is bounded, in time and together."""

    def __init__(self, patience_s: float = PATIENCE_S, max_together_bytes: int = MAX_TOGETHER_BYTES) -> None:
        self._patience_s = patience_s
        self._max_together_bytes = max_together_bytes
        self._held: dict[asyncio.Transport, asyncio.TimerHandle] = {}  # the one that has waited longest is first

    def __len__(self) -> int:
        return len(self._held)

    def begin(self, transport: asyncio.Transport) -> None:
        """Its caller is behind. The connection is cut when too little leaves; those that have been behind longest are
        cut at once when all together hold too much."""
        self._watch(transport)
        together = sum(held.get_write_buffer_size() for held in self._held)
        while together > self._max_together_bytes:
            first = next(iter(self._held))
            together -= first.get_write_buffer_size()
            self._cut(first)

    def end(self, transport: asyncio.Transport) -> None:
        """Its caller has caught up, or is gone."""
        timer = self._held.pop(transport, None)
        if timer is not None:
            timer.cancel()

    def _watch(self, transport: asyncio.Transport) -> None:
        held_bytes = transport.get_write_buffer_size()
        loop = asyncio.get_running_loop()
        self._held[transport] = loop.call_later(self._patience_s, self._look, transport, held_bytes)

    def _look(self, transport: asyncio.Transport, before_bytes: int) -> None:
        if before_bytes - transport.get_write_buffer_size() < _LEAST_BYTES:
            self._cut(transport)
        else:
            self._watch(transport)

    def _cut(self, transport: asyncio.Transport) -> None:
        self.end(transport)
        transport.abort()

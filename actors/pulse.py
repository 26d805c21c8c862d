"""Pulse: whether MongoDB answers at all, asked beside the commands that are under way and may never be answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from actors.core.ports import Clock

_SILENT_S = 1.0  # with the pause between two questions and the age of a status still within two seconds


class Pulse:
    """One question at a time."""

    def __init__(self, probe: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self.silent = False  # the question under way has waited for longer than a server that is there would let it
        self._probe = probe
        self._clock = clock

    @property
    def note(self) -> str:
        """What the status says of it; empty when all is well."""
        return f"MongoDB has not answered for {_SILENT_S:g} s" if self.silent else ""

    def mongodb(self, *, is_up: bool, last_error: str) -> str:
        """`up`, `down`, or `unknown`: after a start, while nothing has been answered and nothing has failed."""
        if self.silent:
            return "down"
        return "up" if is_up else "down" if last_error else "unknown"

    async def ask(self) -> None:
        """Raises what `probe` raises, as late as it does; `silent` tells sooner."""
        asked = asyncio.ensure_future(self._probe())
        timer = asyncio.create_task(self._clock.sleep(_SILENT_S))
        try:
            await asyncio.wait({asked, timer}, return_when=asyncio.FIRST_COMPLETED)
            self.silent = not asked.done()
            await asked
        finally:
            self.silent = False
            asked.cancel()
            timer.cancel()

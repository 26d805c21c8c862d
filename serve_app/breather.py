"""Breather: what takes long lets others be answered in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_SLICE_S = 0.005  # by the clock: one step may take a dozen microseconds, or a third of a second


class Breather:
    """For one piece of work, between its steps."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._since_s = monotonic()

    def is_due(self) -> bool:
        return self._monotonic() - self._since_s > _SLICE_S

    async def take(self) -> None:
        await asyncio.sleep(0)
        self._since_s = self._monotonic()

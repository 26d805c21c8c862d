"""The clock of asyncio's own loop, set by hand: timers go off when a test says that time has passed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from actors.adapters.clock import settle


def stop_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Awaitable[None]]:
    """From here on no time passes in the running loop, but by what this returns: `await advance(seconds)`, after which
    all that can go on has done so."""
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)

    async def advance(seconds: float) -> None:
        nonlocal now
        now += seconds
        await settle()

    return advance

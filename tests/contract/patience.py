"""Waiting for what real processes do in their own time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def until(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    """Raises `AssertionError` when it does not come true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


async def eventually(condition: Callable[[], object], timeout_s: float = 15.0) -> None:
    """As `until`, for what the running loop itself has to do."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)

"""Deadlines: one timer for the time limits of many waiters."""

from __future__ import annotations

import asyncio
from typing import Any

_LOOK_S = 0.1  # at most so much too late; or a thousand that are due one after the other would be a thousand looks


class Deadlines:
    """All have the same limit, so they are due in the order in which they began.

    `asyncio.timeout` and `asyncio.wait` set a timer for each: a tenth of what a replica spends on a request.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._due_s: dict[asyncio.Future[Any], float] = {}  # on the loop's clock
        self._looking = False

    def begin(self, waiter: asyncio.Future[Any]) -> None:
        """Gets a `TimeoutError` when its time is up, unless it is done by then."""
        self._due_s[waiter] = asyncio.get_running_loop().time() + self._limit_s
        if not self._looking:
            self._look()

    def end(self, waiter: asyncio.Future[Any]) -> None:
        """No longer looked at."""
        self._due_s.pop(waiter, None)

    def _look(self) -> None:
        self._looking = False  # until there is a timer: where memory lacks for one, whoever begins next looks again
        loop = asyncio.get_running_loop()
        now = loop.time()
        over = []
        for waiter, due_s in self._due_s.items():
            if due_s > now:
                loop.call_at(max(due_s, now + _LOOK_S), self._look)
                self._looking = True
                break
            over.append(waiter)
        for waiter in over:
            if not waiter.done():
                waiter.set_exception(TimeoutError())
            del self._due_s[waiter]  # it has been told

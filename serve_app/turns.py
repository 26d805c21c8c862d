"""Turns: how many requests a replica works on at once. The others wait, in the order they came."""

from __future__ import annotations

import asyncio
from collections import deque

from serve_app.deadlines import Deadlines
from serve_app.errors import Problem

MOST = 512  # enough for full calls to the buffer; above it nothing is gained (docs/performance.md)
MAX_WAITING_BYTES = 64 * 1024 * 1024


class Turns:
    """A replica that is behind would take up all that lies in its sockets before it answers any of it: every stage goes
    over thousands of requests that no cache holds any more, and their callers are answered in bunches, some long after
    others who came later.
    """

    def __init__(self, patience_s: float, most: int = MOST, max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        self._free = most
        self._patience_s = patience_s
        self._deadlines = Deadlines(patience_s)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._room_bytes = max_waiting_bytes

    async def take(self, size: int = 0) -> None:
        """Returns when it is this request's turn, which it has to give back. It holds `size` bytes while it waits.

        Raises `Problem` overloaded when they are too many, or its turn does not come in time.
        """
        if self._free:  # so nobody waits
            self._free -= 1
            return
        if size > self._room_bytes:
            raise Problem("overloaded", "Too many bytes wait for their turn here.")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._room_bytes -= size
        try:
            self._deadlines.begin(turn)
            await turn
        except TimeoutError:
            raise Problem("overloaded", f"Its turn did not come within {self._patience_s:g} s.") from None
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give_back()  # it had come just now
            raise
        finally:
            turn.cancel()  # if it has not come: without memory for a time limit nobody would take it, nor give it back
            self._deadlines.end(turn)
            self._room_bytes += size

    def give_back(self) -> None:
        """Whoever has waited longest is next."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

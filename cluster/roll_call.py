"""RollCall: whether the actors that a replica was made for are still there, or another version has ended them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection


class RollCall:
    """Asks Ray beside the replica's work. Nobody waits for the answer, and one that does not come says nothing: a Ray
    that is slow for a moment is no reason to end a replica."""

    def __init__(self, ours: Collection[str], present: Callable[[], Awaitable[Collection[str]]]) -> None:
        """`present`: the service's actors that Ray knows, whatever their version, and those it is just restarting."""
        self._ours = frozenset(ours)
        self._present = present
        self._asked: asyncio.Future[Collection[str]] | None = None
        self._gone: list[str] = []  # as the last answer had it

    def gone(self) -> list[str]:
        """Those of ours that were gone while others had come, by Ray's last answer; asks it again. While it has not
        answered yet this stays: Serve wants to hear it three times in a row, and one good word would begin anew.

        Where no others have come, the service was drained, or an actor could not begin: a new replica would not help.
        """
        if self._asked is None or self._asked.done():
            answered, self._asked = self._asked, asyncio.ensure_future(self._present())
            self._gone = []
            if answered is not None and answered.exception() is None:
                self._gone = self._lacking(answered.result())
        return self._gone

    def _lacking(self, names: Collection[str]) -> list[str]:
        present = frozenset(names)
        return sorted(self._ours - present) if present - self._ours else []

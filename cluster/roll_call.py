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

    def gone(self) -> list[str]:
        """Those of ours that are gone while others have come, if Ray has answered since the last time; asks it again.

        Where no others have come, the service was drained, or an actor could not begin: a new replica would not help.
        """
        if self._asked is not None and not self._asked.done():
            return []
        answered, self._asked = self._asked, asyncio.ensure_future(self._present())
        if answered is None or answered.exception() is not None:
            return []
        present = frozenset(answered.result())
        return sorted(self._ours - present) if present - self._ours else []

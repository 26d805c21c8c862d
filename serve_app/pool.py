"""Which documents GET /api/data reads: a bounded pool of ids, so that reads stay within what caches can hold.

They come from MongoDB by the hundred, in one command, and are in the shared cache from then on. Ids of our own fresh
writes would do too, but each of them costs MongoDB a command of its own once it has left the buffer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterable, Iterator

from actors.core.intake import Intake
from serve_app.ids import InvalidId, id_text, id_value

logger = logging.getLogger(__name__)

SIZE = 100
REFRESH_S = 10.0
HUNGRY_BELOW = 5
HUNGRY_REFRESH_S = 1.0  # while it holds fewer than a request reads, as at the start with an empty collection


class Pool:
    """Ids that MongoDB was seen to hold. Time is an argument (monotonic seconds)."""

    def __init__(self, intake: Intake, namespace: str) -> None:
        self._intake = intake
        self._namespace = namespace
        self._ids: list[str] = []
        self._next = 0
        self._asked_s = float("-inf")
        self._first: asyncio.Task[None] | None = None
        self._refreshing: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> list[str]:
        """All of them; at most `SIZE`."""
        return list(self._ids)

    def pick(self, count: int) -> list[str]:
        """Distinct ids, dealt like cards and shuffled when too few are left; fewer when there are fewer."""
        if self._next + count > len(self._ids):
            random.shuffle(self._ids)
            self._next = 0
        first, self._next = self._next, self._next + count
        return self._ids[first : self._next]

    def forget(self, ids: Iterable[str]) -> None:
        """These could not be read; the next refresh brings others."""
        gone = set(ids)
        self._ids = [id_ for id_ in self._ids if id_ not in gone]

    def refresh_if_due(self, now: float) -> None:
        """Starts a refresh in the background, one at a time."""
        due_s = self._asked_s + (REFRESH_S if len(self._ids) >= HUNGRY_BELOW else HUNGRY_REFRESH_S)
        if now >= due_s and self._refreshing is None:
            self._asked_s = now
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh())
            self._first = self._first or self._refreshing

    async def asked_once(self, timeout_s: float) -> None:
        """Returns when the first refresh has ended, or the time is up. No request waits for a later one."""
        if self._first is not None and not self._first.done():
            await asyncio.wait({self._first}, timeout=timeout_s)

    async def _refresh(self) -> None:
        try:
            sample = await self._intake.sample(self._namespace, SIZE)
            self._ids = list(dict.fromkeys((*_usable(id_ for id_, _ in sample), *self._ids)))[:SIZE]
        except Exception as error:  # MongoDB may be down for as long as it likes; the pool stays as it is
            logger.info("No fresh ids to read: %r", error)
        finally:
            self._refreshing = None


def _usable(ids: Iterable[str]) -> Iterator[str]:
    """In the one form this service writes and caches them under, without those it could not name at all."""
    for id_ in ids:
        with contextlib.suppress(InvalidId):
            yield id_text(id_value(id_))

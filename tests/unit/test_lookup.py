"""A read that writes overtake: it is done again, and is refused rather than answered with what is older."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from actors.adapters.memory import MemoryCache
from actors.backlog import Backlog
from actors.core.errors import DatabaseUnavailable
from actors.core.ports import BatchSink, Found
from actors.lookup import Lookup


class Overtaken:
    """MongoDB, asked so slowly that the first `times` questions are each overtaken by a write to the document."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.asked = 0
        self.lookup = Lookup(Backlog(), cast(BatchSink, self), MemoryCache(), 10, may_cache=True)

    async def find(self, namespace: str, ids: Sequence[str]) -> list[bytes | None]:
        self.asked += 1
        if self.asked <= self.times:
            await self.lookup.drop([(namespace, id_) for id_ in ids])
        return [b"answer %d" % self.asked] * len(ids)


async def test_a_read_that_was_overtaken_is_done_again() -> None:
    mongodb = Overtaken(times=2)
    assert await mongodb.lookup.read("d.c", ["a"]) == [Found(b"answer 3", [], "mongodb")]


async def test_a_read_that_is_overtaken_each_time_is_refused() -> None:
    (told,) = await Overtaken(times=9).lookup.read("d.c", ["a"])
    assert isinstance(told, DatabaseUnavailable)
    assert "faster than it can be read" in told.message

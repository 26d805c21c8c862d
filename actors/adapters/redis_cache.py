"""RedisCache: documents read before, shared by all replicas, each for a limited time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice
from secrets import token_bytes

from actors.adapters.redis_link import Client, reading, telling
from actors.core.errors import SpillwayError

# A buffer keeps 20,000 documents here (`cache_max_entries`). At this size they have 160 MiB, and the log beside them
# has the memory it needs; a cache that filled Redis would stop every write until its documents expire.
MAX_DOCUMENT_BYTES = 8 * 1024
_STAMP_BYTES = 8


class RedisCache:
    """Satisfies `Cache`. Every instance starts with an empty one: what another put there, nobody may have dropped.

    Its keys are numbers below `max_entries`, so that there are never more of them, whatever was put without an answer
    and however many instances of this scope there were; those of other pool sizes, and what was above a bound that was
    lowered, end with their time. Which document is where, only this one knows, and by which stamp: what arrives late,
    or is of another instance, has one that nobody looks for.
    """

    def __init__(self, client: Client, prefix: str, scope: str, ttl_s: int, max_entries: int = 20_000) -> None:
        """`scope`: whose cache it is; it has one at a time. `ttl_s` 0 switches it off."""
        self._client = client
        self._prefix = f"{prefix}:cache:{scope}:"
        self._ttl_s = ttl_s
        self._max_entries = max_entries if ttl_s else 0
        self._kept: OrderedDict[str, tuple[int, bytes]] = OrderedDict()  # number and stamp, the oldest first
        self._free: list[int] = []  # of the numbers below `_next`
        self._next = 0

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        kept = {key: self._kept[key] for key in keys if key in self._kept}
        if not kept:
            return [None] * len(keys)
        try:
            async with reading(self._client):
                values = await self._client.mget([self._name(number) for number, _ in kept.values()])
        except SpillwayError:
            return [None] * len(keys)  # a failing cache is a miss; that Redis is away is told by the log
        found = {
            key: value[_STAMP_BYTES:]
            for (key, (_, stamp)), value in zip(kept.items(), values, strict=True)
            if value is not None and value.startswith(stamp)
        }
        return [found.get(key) for key in keys]

    async def put(self, documents: dict[str, bytes]) -> None:
        fit = ((key, document) for key, document in documents.items() if len(document) <= MAX_DOCUMENT_BYTES)
        small = dict(islice(fit, self._max_entries))
        if not small:
            return
        numbers = [self._number(key) for key in small]
        stamp = token_bytes(_STAMP_BYTES)
        try:
            async with telling(self._client), self._client.pipeline(transaction=False) as pipe:
                for number, document in zip(numbers, small.values(), strict=True):
                    pipe.set(self._name(number), stamp + document, ex=self._ttl_s)
                await pipe.execute(raise_on_error=False)
        except BaseException as error:  # it may still arrive, behind a later drop: under a stamp that is forgotten
            self._free += numbers
            if not isinstance(error, SpillwayError):
                raise
        else:
            self._kept.update((key, (number, stamp)) for key, number in zip(small, numbers, strict=True))

    async def drop(self, keys: Sequence[str]) -> None:
        kept = {key: self._kept[key][0] for key in keys if key in self._kept}
        if not kept:
            return
        async with reading(self._client):
            await self._client.delete(*map(self._name, kept.values()))
        for key, number in kept.items():
            del self._kept[key]
            self._free.append(number)

    def _number(self, key: str) -> int:
        """One for `key`: what it has already, one that is free, or that of the oldest document."""
        if key in self._kept:
            return self._kept.pop(key)[0]
        if self._free:
            return self._free.pop()
        if self._next < self._max_entries:
            self._next += 1
            return self._next - 1
        return self._kept.popitem(last=False)[1][0]

    def _name(self, number: int) -> str:
        return f"{self._prefix}{number}"

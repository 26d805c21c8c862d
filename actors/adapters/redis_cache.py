"""RedisCache: documents read before, shared by all replicas, each for a limited time."""

from __future__ import annotations

from collections.abc import Sequence
from secrets import token_hex

from actors.adapters.redis_link import Client, reading, telling
from actors.core.errors import SpillwayError

# A buffer keeps 20,000 documents here (`cache_max_entries`). At this size they have 160 MiB, and the log beside them
# has the memory it needs; a cache that filled Redis would stop every write until its documents expire.
MAX_DOCUMENT_BYTES = 8 * 1024


class RedisCache:
    """Satisfies `Cache`. Every instance starts with an empty one: what another put there, nobody may have dropped."""

    def __init__(self, client: Client, prefix: str, scope: str, ttl_s: int) -> None:
        """`scope`: whose cache it is, for people who look into Redis. `ttl_s` 0 switches it off."""
        self._client = client
        self._scope = f"{prefix}:cache:{scope}:"
        self._ttl_s = ttl_s
        self._begin()

    def _begin(self) -> None:
        self._prefix = f"{self._scope}{token_hex(6)}:"

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        if not self._ttl_s:
            return [None] * len(keys)
        try:
            async with reading(self._client):
                found: list[bytes | None] = await self._client.mget([self._prefix + key for key in keys])
            return found
        except SpillwayError:
            return [None] * len(keys)  # a failing cache is a miss; that Redis is away is told by the log

    async def put(self, documents: dict[str, bytes]) -> None:
        small = {key: document for key, document in documents.items() if len(document) <= MAX_DOCUMENT_BYTES}
        if not self._ttl_s or not small:
            return
        try:
            async with telling(self._client), self._client.pipeline(transaction=False) as pipe:
                for key, document in small.items():
                    pipe.set(self._prefix + key, document, ex=self._ttl_s)
                await pipe.execute(raise_on_error=False)
        except SpillwayError:
            self._begin()  # it may still arrive, behind a later drop: then where nobody looks

    async def drop(self, keys: Sequence[str]) -> None:
        if self._ttl_s and keys:
            async with reading(self._client):
                await self._client.delete(*(self._prefix + key for key in keys))

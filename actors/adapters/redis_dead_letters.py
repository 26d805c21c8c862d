"""RedisDeadLetters: the shelf of rejected writes, in the same Redis as the log.

`dead` is a stream (it keeps the order in which they came), `dead:at` tells where in it a letter stands, by its id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.adapters.redis_link import Client, reading, telling
from actors.core.ports import DeadLetter

# The index first: the same rejection, replayed after a crash, must not become a second letter. The HDEL of nothing is
# for a Redis over its memory limit: once a script has written it may go on, and only after this is the log trimmed.
_ADD = """
redis.call('HDEL', KEYS[2], '')
for i = 1, #ARGV, 6 do
  if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 0 then
    local at = redis.call('XADD', KEYS[1], '*', 'id', ARGV[i], 'payload', ARGV[i+1], 'reason', ARGV[i+2],
      'attempts', ARGV[i+3], 'first_s', ARGV[i+4], 'last_s', ARGV[i+5])
    redis.call('HSET', KEYS[2], ARGV[i], at)
  end
end
return 0
"""

_REMOVE = """
local at = redis.call('HGET', KEYS[2], ARGV[1])
if not at then return 0 end
redis.call('XDEL', KEYS[1], at)
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
"""


class RedisDeadLetters:
    """Satisfies `DeadLetters`."""

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        self._keys = [f"{prefix}:dead", f"{prefix}:dead:at"]
        self._add = client.register_script(_ADD)
        self._remove = client.register_script(_REMOVE)

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        if not letters:
            return
        arguments: list[Any] = []
        for letter in letters:
            arguments += letter
        async with telling(self._client):
            await self._add(keys=self._keys, args=arguments)

    async def list(self, limit: int, after: str = "") -> list[DeadLetter]:
        async with reading(self._client):
            at = await self._client.hget(self._keys[1], after) if after else None
            page = await self._client.xrange(self._keys[0], min=f"({at.decode()}" if at else "-", count=limit)
        return [_letter(fields) for _, fields in page]

    async def get(self, id: str) -> DeadLetter | None:
        async with reading(self._client):
            at = await self._client.hget(self._keys[1], id)
            page = await self._client.xrange(self._keys[0], min=at, max=at) if at else []
        return _letter(page[0][1]) if page else None

    async def remove(self, id: str) -> bool:
        async with telling(self._client):
            return bool(await self._remove(keys=self._keys, args=[id]))

    async def size(self) -> int:
        async with reading(self._client):
            return int(await self._client.xlen(self._keys[0]))


def _letter(fields: dict[bytes, bytes]) -> DeadLetter:
    return DeadLetter(
        fields[b"id"].decode(),
        fields[b"payload"],
        fields[b"reason"].decode(),
        int(fields[b"attempts"]),
        float(fields[b"first_s"]),
        float(fields[b"last_s"]),
    )

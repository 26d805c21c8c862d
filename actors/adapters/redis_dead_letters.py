"""RedisDeadLetters: the shelf of rejected writes, in the same Redis as the log.

`dead` is a stream (it keeps the order in which they came), `dead:at` tells where in it a letter stands, by its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from actors.adapters.redis_link import Client, reading, telling
from actors.core.dead_letter import EVERY, DeadLetter, Page, Selection
from actors.core.errors import BufferUnavailable

# The index first: the same rejection, replayed after a crash, must not become a second letter. The HDEL of nothing is
# for a Redis over its memory limit: once a script has written it may go on, and only after this is the log trimmed.
# A script that fails is not undone, and its caller tries again for ever: so a Redis that will not keep the index, which
# may forbid us HSET, has to say so while no letter stands on the shelf.
# What comes when the log has been trimmed is an earlier try that was under way all the time: its letter was kept by a
# later one, and may have been replayed or discarded since. KEYS[3] and on: where each letter's log notes how far it is.
_ADD = """
local function order(text)
  local milliseconds, sequence = string.match(text, '(%d+)-(%d+)')
  return tonumber(milliseconds or 0), tonumber(sequence or 0)
end
redis.call('HDEL', KEYS[2], '')
redis.call('HSET', KEYS[2], '', '')
redis.call('HDEL', KEYS[2], '')
for i = 1, #ARGV, 6 do
  local milliseconds, sequence = order(ARGV[i])
  local kept, first = order(redis.call('GETRANGE', KEYS[3 + (i - 1) / 6], 0, 40))
  local is_trimmed = milliseconds < kept or milliseconds == kept and sequence < first
  if not is_trimmed and redis.call('HEXISTS', KEYS[2], ARGV[i]) == 0 then
    local at = redis.call('XADD', KEYS[1], '*', 'id', ARGV[i], 'payload', ARGV[i+1], 'reason', ARGV[i+2],
      'attempts', ARGV[i+3], 'first_s', ARGV[i+4], 'last_s', ARGV[i+5])
    redis.call('HSET', KEYS[2], ARGV[i], at)
  end
end
return 0
"""

_REMOVE = """
local removed = 0
for i = 1, #ARGV do
  local at = redis.call('HGET', KEYS[2], ARGV[i])
  if at then
    redis.call('XDEL', KEYS[1], at)
    redis.call('HDEL', KEYS[2], ARGV[i])
    removed = removed + 1
  end
end
return removed
"""

# One letter at a time, because nothing tells its size before, and Redis counts what it is about to send as its memory.
_READ = """
local page, bytes, start = {}, 0, ARGV[1]
while #page < tonumber(ARGV[3]) and bytes < tonumber(ARGV[4]) do
  local letter = redis.call('XRANGE', KEYS[1], '(' .. start, ARGV[2], 'COUNT', 1)[1]
  if not letter then break end
  page[#page + 1], start = letter, letter[1]
  for i = 2, #letter[2], 2 do bytes = bytes + #letter[2][i] end
end
return page
"""

_END = """
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
return {newest and newest[1] or '0-0', redis.call('XLEN', KEYS[1])}
"""

_CHUNK = 20  # letters read in one go
_CHUNK_BYTES = 1024 * 1024  # and so many bytes, and one letter more
_SCAN = 2_000  # letters looked at for one page: a fraction of a second
_SCAN_BYTES = 16 * 1024 * 1024  # and so many bytes: they all come through one buffer
_PAGE_BYTES = 4 * 1024 * 1024

# Questions at once; a large one reads letters, each of 16 MiB if need be. Appends and the look at the log have the same
# connections, and so few leave them enough.
_SMALL, _LARGE = 2, 2
_MAX_WAITING = 100  # of each; more would hold up what else is asked of a buffer (MAX_CALLS of its channel)
_WAIT_S = 5.0


class _Line:
    """So many at once, the others in the order they came: where they wait for a connection, redis-py lets newcomers
    overtake."""

    def __init__(self, most: int) -> None:
        self._turns = asyncio.Semaphore(most)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Raises `BufferUnavailable` when too many wait, or it does not come in time."""
        if self._waiting >= _MAX_WAITING:
            raise BufferUnavailable(f"{self._waiting} others wait for the dead letters already", 1.0)
        self._waiting += 1
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._turns.acquire()
        except TimeoutError:
            raise BufferUnavailable(f"others read dead letters, for {_WAIT_S:g} s and more", 1.0) from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turns.release()


class RedisDeadLetters:
    """Satisfies `DeadLetters`."""

    def __init__(self, client: Client, prefix: str) -> None:
        self._client = client
        self._arrivals = f"{prefix}:arrivals:"  # see RedisLog
        self._keys = [f"{prefix}:dead", f"{prefix}:dead:at"]
        self._add = client.register_script(_ADD)
        self._remove = client.register_script(_REMOVE)
        self._read = client.register_script(_READ)
        self._end = client.register_script(_END)
        self._small, self._large = _Line(_SMALL), _Line(_LARGE)

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        if not letters:
            return
        arguments: list[Any] = []
        for letter in letters:
            arguments += letter
        arrivals = [self._arrivals + letter.id.partition("/")[0] for letter in letters]
        async with telling(self._client):
            await self._add(keys=self._keys + arrivals, args=arguments)

    async def list(self, selection: Selection = EVERY, limit: int = 100, after: str = "") -> Page:
        position, _, last = after.partition("_")
        letters: list[DeadLetter] = []
        scanned = looked_at = size = 0
        async with self._large.turn(), reading(self._client):
            end, there = await self._end(keys=self._keys[:1])  # at once: up to `end` there are `size` letters
            newest = end.decode()
            if not last:
                position, last = "0-0", newest
            while (
                position != last
                and scanned < _SCAN
                and looked_at < _SCAN_BYTES
                and len(letters) < limit
                and size < _PAGE_BYTES
            ):
                chunk = await self._read(keys=self._keys[:1], args=[position, last, _CHUNK, _CHUNK_BYTES])
                if not chunk:
                    position = last
                for at, fields in chunk:
                    position, scanned = at.decode(), scanned + 1
                    letter = _letter(dict(zip(fields[::2], fields[1::2], strict=True)))
                    looked_at += len(letter.payload)
                    if selection.takes(letter):
                        letters.append(letter)
                        size += len(letter.payload)
                        if len(letters) == limit or size >= _PAGE_BYTES:
                            break
        return Page(letters, scanned, "" if position == last else f"{position}_{last}", newest, there)

    async def get(self, id: str) -> DeadLetter | None:
        async with self._small.turn(), reading(self._client):
            at = await self._client.hget(self._keys[1], id)
        if not at:
            return None
        async with self._large.turn(), reading(self._client):
            page = await self._client.xrange(self._keys[0], min=at, max=at)
        return _letter(page[0][1]) if page else None

    async def remove(self, ids: Sequence[str]) -> int:
        if not ids:
            return 0
        async with self._small.turn(), telling(self._client):
            return int(await self._remove(keys=self._keys, args=list(ids)))

    async def size(self) -> int:
        async with self._small.turn(), reading(self._client):
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

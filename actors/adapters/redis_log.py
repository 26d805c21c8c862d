"""RedisLog: a durable stream in one Redis with `appendfsync always`.

Keys, all under one prefix: `stream:{name}` the entries, `owner:{name}` the epoch of the stream's owner and
`owner:{name}:by` who that is, `streams` the names of all streams there ever were, `once:{digest}` the idempotency
records.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

from actors.adapters.redis_link import Client, reading, refuse_unsafe, telling
from actors.core.dead_letter import DeadLetter
from actors.core.errors import LogUnavailable
from actors.core.ports import Appended, DeadLetters, Keyed, KeyedAnswer, Logged
from actors.core.position import NOTHING, order

_FIELD = b"w1"  # frames of actors.core.document; a new layout gets a new name, and both are read
_PAGE = 100

# One script, so that a torn log file drops all of it or nothing, and so that an owner whose time is over keeps nothing.
_APPEND = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('FENCED epoch ' .. ARGV[1]) end
local plain = ''
if ARGV[2] ~= '' then plain = redis.call('XADD', KEYS[2], '*', 'w1', ARGV[2]) end
local answers = {plain}
for i = 3, #KEYS do
  local at = 4 + (i - 3) * 2
  local fingerprint, payload = ARGV[at], ARGV[at + 1]
  local known = redis.call('GET', KEYS[i])
  if not known then
    local position = ARGV[#ARGV] .. '/' .. redis.call('XADD', KEYS[2], '*', 'w1', payload)
    redis.call('SET', KEYS[i], fingerprint .. position, 'EX', ARGV[3])
    answers[#answers + 1] = 'N' .. position
  elseif string.sub(known, 1, #fingerprint) == fingerprint then
    answers[#answers + 1] = 'K' .. string.sub(known, #fingerprint + 1)
  else
    answers[#answers + 1] = 'C'
  end
end
return answers
"""


# Whoever opens is the owner; reopening is for the same one only. Both may be asked again when no answer came.
_OPEN = """
redis.call('SADD', KEYS[3], ARGV[2])
redis.call('SET', KEYS[2], ARGV[1])
return redis.call('INCR', KEYS[1])
"""
_REOPEN = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return redis.error_reply('FENCED owner ' .. ARGV[1]) end
return redis.call('INCR', KEYS[1])
"""


class RedisLog:
    """Satisfies `WriteLog`. One instance, one stream, one owner."""

    def __init__(
        self,
        client: Client,
        prefix: str,
        stream: str,
        dead_letters: DeadLetters,
        *,
        once_ttl_s: int,
        allow_unsafe: bool = False,
    ) -> None:
        """`once_ttl_s`: how long an idempotency key is remembered."""
        self._client = client
        self._prefix = prefix
        self._stream = stream
        self._stream_key = f"{prefix}:stream:{stream}"
        self._owner_key = f"{prefix}:owner:{stream}"
        self._dead_letters = dead_letters
        self._once_ttl_s = once_ttl_s
        self._allow_unsafe = allow_unsafe
        self._epoch = 0
        self._me = uuid4().hex
        self._script = client.register_script(_APPEND)
        self._open = client.register_script(_OPEN)
        self._reopen = client.register_script(_REOPEN)

    @property
    def stream(self) -> str:
        return self._stream

    @property
    def epoch(self) -> int:
        return self._epoch

    async def open(self) -> int:
        return await self._own(self._open)

    async def reopen(self) -> int:
        return await self._own(self._reopen)

    async def _own(self, script: Any) -> int:
        if not self._allow_unsafe:
            await refuse_unsafe(self._client)
        keys = [self._owner_key, f"{self._owner_key}:by", f"{self._prefix}:streams"]
        async with reading(self._client):
            self._epoch = int(await script(keys=keys, args=[self._me, self._stream]))
        return self._epoch

    async def append(self, payload: bytes, keyed: Sequence[Keyed] = ()) -> Appended:
        keys = [self._owner_key, self._stream_key, *(f"{self._prefix}:once:{item.key}" for item in keyed)]
        arguments: list[Any] = [self._epoch, payload, self._once_ttl_s]
        for item in keyed:
            arguments += (item.fingerprint, item.payload)
        arguments.append(self._stream)
        async with telling(self._client):
            plain, *answers = await self._script(keys=keys, args=arguments)
        return Appended(plain.decode(), [_answer(answer.decode()) for answer in answers])

    async def replay(self, after: str | None = None) -> AsyncIterator[Logged]:
        start = after or NOTHING
        while True:
            async with reading(self._client):
                page = await self._client.xrange(self._stream_key, min=f"({start}", count=_PAGE)
            for position, fields in page:
                if _FIELD not in fields:
                    raise LogUnavailable(
                        f"{self._stream_key} holds an entry at {position.decode()} that this version cannot read"
                    )
                yield Logged(position.decode(), fields[_FIELD])
            if len(page) < _PAGE:
                return
            start = page[-1][0].decode()

    async def acknowledge(self, position: str) -> None:
        milliseconds, sequence = order(position)
        async with telling(self._client):
            # a plain command and not a transaction: it still works when Redis is over its memory limit
            await self._client.xtrim(self._stream_key, minid=f"{milliseconds}-{sequence + 1}", approximate=False)

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        await self._dead_letters.add(letters)

    async def last_position(self) -> str:
        async with reading(self._client):
            if not await self._client.exists(self._stream_key):
                return NOTHING
            last: bytes = (await self._client.xinfo_stream(self._stream_key))["last-generated-id"]
        return last.decode()

    async def ping(self) -> None:
        async with reading(self._client):
            await self._client.ping()


async def streams(client: Client, prefix: str) -> list[str]:
    """Names of all streams there ever were under `prefix`, sorted. Raises `LogUnavailable`."""
    async with reading(client):
        return sorted(name.decode() for name in await client.smembers(f"{prefix}:streams"))


async def is_empty(client: Client, prefix: str, stream: str) -> bool:
    """Holds `stream` nothing? Raises `LogUnavailable`."""
    async with reading(client):
        return int(await client.xlen(f"{prefix}:stream:{stream}")) == 0


def _answer(text: str) -> KeyedAnswer:
    return KeyedAnswer(text[1:], fresh=text[0] == "N", conflict=text[0] == "C")

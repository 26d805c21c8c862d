"""RedisLog: a durable stream in one Redis with `appendfsync always`.

Keys, all under one prefix: `stream:{name}` the entries, `owner:{name}` the epoch of the stream's owner and
`owner:{name}:by` who that is (the stream of its buffer, and a name of its own), `arrivals:{name}` the last call of each
lane as of the last acknowledged entry, and before them the position that follows that, `streams` the names of all
streams there ever were, `pool` the size of the present pool, `once:{digest}` the idempotency records, `once` how many
of them there are, by the second at which the last of them is gone, `format` see `redis_format`.
"""

from __future__ import annotations

import asyncio
import json
from collections import ChainMap
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

from actors.adapters.redis_format import FORMAT, guard, newer
from actors.adapters.redis_link import SAFE, Client, reading, refuse_unsafe, telling, unsafe
from actors.core.arrivals import Arrivals, LaneCall
from actors.core.dead_letter import DeadLetter
from actors.core.errors import Fenced, LogUnavailable, unreadable
from actors.core.ports import Appended, DeadLetters, Keyed, KeyedAnswer, Logged
from actors.core.position import NOTHING, order

_FIELD = b"w1"  # frames of actors.core.document; a new layout gets a new name, and both are read
_CALLS = b"calls"  # behind it, where there are any: whose writes these are, as JSON
_PAGE = 100  # entries at most
_PAGE_BYTES = 4 << 20  # a page ends with the entry that reaches this: each has to come within one round trip's time
# Readiness must tell the truth within two seconds. A disk that needs half a second to sync delays a ping by two syncs.
_PING_S = 1.2

# Records are counted by the slot of time (a 24th of their life) in which they expire: the count errs by one slot at
# most, upwards, and 25 numbers stand for an index of a million entries.
# One script, so that a torn log file drops all of it or nothing, and so that an owner whose time is over keeps nothing.
_APPEND = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('FENCED epoch ' .. ARGV[1]) end
local plain = ''
if ARGV[2] ~= '' then plain = redis.call('XADD', KEYS[2], '*', 'w1', ARGV[2], 'calls', ARGV[5]) end
local answers = {plain}
local room, ends
for i = 4, #KEYS do
  local at = 6 + (i - 4) * 2
  local fingerprint, payload = ARGV[at], ARGV[at + 1]
  local known = redis.call('GET', KEYS[i])
  if not known and not room then
    local now, slot = tonumber(redis.call('TIME')[1]), math.ceil(ARGV[3] / 24)
    room, ends = tonumber(ARGV[4]), math.ceil((now + 1 + ARGV[3]) / slot) * slot
    local counts = redis.call('HGETALL', KEYS[3])
    for c = 1, #counts, 2 do
      if tonumber(counts[c]) <= now then redis.call('HDEL', KEYS[3], counts[c])
      else room = room - counts[c + 1] end
    end
  end
  if not known and room < 1 then
    answers[#answers + 1] = 'F'
  elseif not known then
    room = room - 1
    redis.call('HINCRBY', KEYS[3], ends, 1)
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


# Whoever opens is the owner; reopening is for the same one only. Both may be asked again when no answer came: a reopen
# says which epoch it ends, so that one which arrives late ends none that its owner has begun since.
# A Redis over its memory limit refuses what makes it larger, unless the script has written before. To open must work
# then (the DEL sees to that), or nobody would pour what fills it; to reopen must not, or the log would look alive.
# Both write twice at least, always, and so are transactions in Redis' file. Where that was torn in one and Redis has
# left the beginning, the next EXEC ends it. A single XADD has none since Redis 7: behind the torn beginning it would be
# part of it, and be dropped with it at the start after that.
_OPEN = (
    guard(key=5, argument=4)
    + """
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[2], ARGV[1])
redis.call('SADD', KEYS[3], ARGV[2])
redis.call('SET', KEYS[5], ARGV[4])
return {redis.call('INCR', KEYS[1]), redis.call('GET', KEYS[4])}
"""
)
_REOPEN = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return redis.error_reply('FENCED owner ' .. ARGV[1]) end
local epoch = redis.call('GET', KEYS[1])
if epoch and epoch ~= ARGV[3] then redis.call('SET', KEYS[1], epoch) else epoch = redis.call('INCR', KEYS[1]) end
redis.call('SET', KEYS[2], ARGV[1])
return epoch
"""

# A successor sends the oldest entries again and so takes MongoDB back for a while: a late word of the owner before must
# not take the newer ones from it. The owner is asked for and not the epoch: reopening changes that, and what this owner
# has seen resolved stays so. It must work when Redis is full, hence the DEL. What is torn after the SET has forgotten
# nothing, and the other way round would not know again what it had forgotten.
# One that its owner has given up on may arrive behind a later one: that knows more calls, and what it forgot, too. It
# trims all the same, because the later one may have been torn.
_ACKNOWLEDGE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('FENCED owner ' .. ARGV[1]) end
local function order(text)
  local milliseconds, sequence = string.match(text, '^(%d+)-(%d+)')
  return tonumber(milliseconds or 0), tonumber(sequence or 0)
end
local milliseconds, sequence = order(ARGV[2])
local known, latest = order(redis.call('GETRANGE', KEYS[3], 0, 40))
if known < milliseconds or known == milliseconds and latest <= sequence then
  redis.call('DEL', KEYS[3])
  redis.call('SET', KEYS[3], ARGV[2] .. ' ' .. ARGV[3])
end
return redis.call('XTRIM', KEYS[2], 'MINID', ARGV[2])
"""


# One entry at a time, because nothing tells the sizes of the next before they are read: a hundred small ones may be
# followed by a hundred of 48 MiB.
_READ = """
local page, bytes, start = {}, 0, ARGV[1]
while #page < tonumber(ARGV[2]) and bytes < tonumber(ARGV[3]) do
  local entry = redis.call('XRANGE', KEYS[1], '(' .. start, '+', 'COUNT', 1)[1]
  if not entry then break end
  page[#page + 1] = entry
  bytes, start = bytes + #entry[2][2], entry[1]
end
return page
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
        once_max: int = 1_000_000,
        allow_unsafe: bool = False,
        owner: str = "",
    ) -> None:
        """`once_ttl_s`: how long an idempotency key is remembered. `once_max`: how many are, of all streams together;
        beyond it new ones are refused, because to forget one early would double the write it stands for. `owner`: the
        stream of the buffer that opens this one, where that is another."""
        self._client = client
        self._prefix = prefix
        self._stream = stream
        self._stream_key = f"{prefix}:stream:{stream}"
        self._owner_key = f"{prefix}:owner:{stream}"
        self._by_key = f"{self._owner_key}:by"
        self._arrivals_key = f"{prefix}:arrivals:{stream}"
        self._dead_letters = dead_letters
        self._once_ttl_s = once_ttl_s
        self._once_max = once_max
        self._allow_unsafe = allow_unsafe
        self._epoch = 0
        self._arrivals = Arrivals()
        self._safe = ""  # the process of Redis that was found so
        self._me = f"{owner or stream}/{uuid4().hex}"
        self._script = client.register_script(_APPEND)
        self._open = client.register_script(_OPEN)
        self._reopen = client.register_script(_REOPEN)
        self._read = client.register_script(_READ)
        self._acknowledge = client.register_script(_ACKNOWLEDGE)

    @property
    def stream(self) -> str:
        return self._stream

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def owner(self) -> str:
        return self._me

    async def open(self) -> int:
        opened = await self._own(self._open)
        if isinstance(opened, bytes):
            raise newer(self._client, self._prefix, opened)
        self._epoch, arrivals = opened[0], opened[1] or b"{}"
        try:
            self._arrivals = Arrivals.loads(arrivals[arrivals.index(b"{") :])  # a version before wrote no position
        except ValueError as error:
            raise LogUnavailable(f"{self._arrivals_key} holds what this version cannot read ({error})") from error
        return self._epoch

    async def reopen(self) -> int:
        self._epoch = int(await self._own(self._reopen))
        return self._epoch

    async def _own(self, script: Any) -> Any:
        if not self._allow_unsafe:
            self._safe = await refuse_unsafe(self._client, self._safe)
        more = [f"{self._prefix}:streams", self._arrivals_key, f"{self._prefix}:format"]
        keys, arguments = [self._owner_key, self._by_key, *more], [self._me, self._stream, self._epoch, FORMAT]
        async with reading(self._client):
            return await script(keys=keys, args=arguments)

    async def append(self, payload: bytes, keyed: Sequence[Keyed] = (), calls: Sequence[LaneCall] = ()) -> Appended:
        once = f"{self._prefix}:once"
        keys = [self._owner_key, self._stream_key, once, *(f"{once}:{item.key}" for item in keyed)]
        arguments: list[Any] = [self._epoch, payload, self._once_ttl_s, self._once_max, json.dumps(calls)]
        for item in keyed:
            arguments += (item.fingerprint, item.payload)
        arguments.append(self._stream)
        async with telling(self._client):
            plain, *answers = await self._script(keys=keys, args=arguments)
        if plain:
            self._arrivals.note(plain.decode(), calls)
        return Appended(plain.decode(), [_answer(answer.decode()) for answer in answers])

    def place(self, call: LaneCall) -> tuple[str, int] | None:
        return self._arrivals.place(call)

    async def replay(self, after: str | None = None) -> AsyncIterator[Logged]:
        start = after or NOTHING
        while True:
            async with reading(self._client):
                page = await self._read(keys=[self._stream_key], args=[start, _PAGE, _PAGE_BYTES])
            for position, (name, payload, *more) in page:
                at = position.decode()
                if name != _FIELD:
                    raise unreadable(self._stream, at, f"its field is {name!r}")
                try:
                    self._arrivals.note(at, _calls(more))
                except (ValueError, TypeError) as error:
                    raise unreadable(self._stream, at, error) from error
                yield Logged(at, payload)
            if not page:
                return
            start = page[-1][0].decode()

    async def acknowledge(self, position: str) -> None:
        milliseconds, sequence = order(position)
        async with telling(self._client):
            await self._acknowledge(
                keys=[self._by_key, self._stream_key, self._arrivals_key],
                args=[self._me, f"{milliseconds}-{sequence + 1}", self._arrivals.dumps()],
            )

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        await self._dead_letters.add(letters)

    async def last_position(self) -> str:
        async with reading(self._client):
            if not await self._client.exists(self._stream_key):
                return NOTHING
            last: bytes = (await self._client.xinfo_stream(self._stream_key))["last-generated-id"]
        return last.decode()

    async def ping(self) -> None:
        known = self._safe
        try:
            async with (
                asyncio.timeout(_PING_S),
                reading(self._client),
                self._client.pipeline(transaction=False) as pipe,  # one round trip
            ):
                pipe.ping().get(self._by_key)  # a Redis that cannot write refuses PING, and would answer GET
                if known:
                    pipe.info("server")
                for name in () if self._allow_unsafe else SAFE:  # they can be changed while it runs
                    pipe.config_get(name)
                _, owner, *settings = await pipe.execute()
        except TimeoutError:
            raise LogUnavailable(f"Redis has not answered for {_PING_S:g} s", 1.0) from None
        if owner != self._me.encode():
            raise Fenced(f"a newer owner has taken over {self._stream}")
        if known and settings.pop(0).get("run_id") != known:  # the end of its file may have been torn: see _REOPEN
            self._safe = ""
            raise LogUnavailable("Redis has been started anew", 1.0)
        if settings and (wrong := unsafe(ChainMap(*settings))):
            self._safe = ""  # when it is put right, a first rewrite has to end before anything is kept
            raise LogUnavailable(wrong, 5.0)


def _calls(fields: list[bytes]) -> list[LaneCall]:
    """What stands behind the payload of an entry; nothing in those of a version before."""
    return [LaneCall(*call) for call in json.loads(fields[1])] if fields[:1] == [_CALLS] else []


def _answer(text: str) -> KeyedAnswer:
    return KeyedAnswer(text[1:], fresh=text[0] == "N", conflict=text[0] == "C", full=text[0] == "F")

"""The streams of a service and whose they are, by the keys that `redis_log` writes; and `pool`, the present size."""

from __future__ import annotations

from actors.adapters.redis_format import FORMAT, guard, newer
from actors.adapters.redis_link import Client, reading
from actors.core.batching import Origin

# A pool may follow another only when all before that one are poured: the streams of two are told apart by their pools'
# sizes, and nothing would tell which of three is the oldest. From then on no buffer of before keeps anything, however
# late its heir: that would be poured first, and lose to what the new pool has taken before it. The owner goes too, or
# it would reopen its stream. A DEL first, as where a log opens: to start must work in a full Redis.
_FOLLOW = (
    guard(key=3, argument=4)
    + """
local size = redis.call('GET', KEYS[1])
if size == ARGV[1] then return {} end
local left = {}
if size then
  for _, stream in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    local older = not string.match(stream, 'of' .. size .. '$')
    if older and redis.call('XLEN', ARGV[2] .. stream) > 0 then left[#left + 1] = stream end
  end
end
if #left == 0 then
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[1], ARGV[1])
  for _, stream in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    redis.call('INCR', ARGV[3] .. stream)
    redis.call('DEL', ARGV[3] .. stream .. ':by')
  end
end
return left
"""
)


async def follow(client: Client, prefix: str, shards: int) -> list[str]:
    """Make `shards` the size of the pool. Returns the streams that have to be poured before, sorted; empty when it is
    done, also when it was done already. Raises `LogUnavailable`, also for a log of a newer version."""
    async with reading(client):
        keys, of_each = ("pool", "streams", "format"), (f"{prefix}:stream:", f"{prefix}:owner:")
        left = await client.eval(_FOLLOW, len(keys), *(f"{prefix}:{key}" for key in keys), shards, *of_each, FORMAT)
    if isinstance(left, bytes):
        raise newer(client, prefix, left)
    return sorted(name.decode() for name in left)


async def streams(client: Client, prefix: str) -> list[str]:
    """Names of all streams there ever were under `prefix`, sorted. Raises `LogUnavailable`."""
    async with reading(client):
        return sorted(name.decode() for name in await client.smembers(f"{prefix}:streams"))


async def is_poured(client: Client, prefix: str, stream: str, heir: str) -> bool:
    """Does `stream` hold nothing, and for good? Before the buffer of the stream `heir` has opened it, an earlier owner
    may still add to it. Raises `LogUnavailable`."""
    async with reading(client), client.pipeline() as pipe:
        owner, entries = await pipe.get(f"{prefix}:owner:{stream}:by").xlen(f"{prefix}:stream:{stream}").execute()
    return (owner or b"").startswith(f"{heir}/".encode()) and entries == 0


async def is_owner(client: Client, prefix: str, origin: Origin) -> bool:
    """Has nobody opened its stream since its owner did? Raises `LogUnavailable`."""
    async with reading(client):
        return bool(await client.get(f"{prefix}:owner:{origin.stream}:by") == origin.owner.encode())

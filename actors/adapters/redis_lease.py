"""RedisLease: the right to be the one writer, as a key that expires.

`writer` holds the epoch of the holder and expires; `writer:epoch` counts the holders there ever were; `writer:clean` is
there while the last holder gave it back with nothing under way; `writer:operation` is how long what may be under way
takes at most, in ms, whoever sent it: each has to be outwaited by its own time, and not by its heir's.
"""

from __future__ import annotations

from actors.adapters.redis_link import Client, reading
from actors.core.ports import Grant

LONGEST_LEASE_S = 60
"""The bound of the setting `writer_lease_s`: no holder, of whatever settings, has longer than this since it renewed."""

# A Redis over its memory limit refuses INCR and SET, unless the script has written before: so each begins with a DEL or
# a PEXPIRE, which are never refused. Without a writer nothing would be poured, and a full Redis would stay full.
# Redis expires by its wall clock: when that is set back by an hour, a dead holder's key has an hour more to live. One
# that was restored or copied without its end (-1), or persisted by hand, would live for ever.
# An heir may die while it still waits for the end of what its predecessor sent, and whoever never heard that it has
# taken the lease takes it again: so the longest time is handed on, until a holder has outwaited it (`alone`).
_ACQUIRE = """
if redis.call('EXISTS', KEYS[1]) == 1 then
  local left = redis.call('PTTL', KEYS[1])
  if left < 0 or left > tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  return {0, 0}
end
local clean, operation = redis.call('DEL', KEYS[3]), tonumber(ARGV[3])
if clean == 0 then operation = math.max(operation, redis.call('GET', KEYS[4]) or 0) end
local epoch = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], epoch, 'PX', ARGV[1])
redis.call('SET', KEYS[4], operation)
if clean == 1 or epoch == 1 then operation = 0 end -- the very first writer of a Redis follows nobody
return {epoch, operation}
"""

# A lease that ran out while Redis was away is taken again as long as nobody else held it since.
_RENEW = """
local holder = redis.call('GET', KEYS[1])
if holder == ARGV[2] then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
elseif holder or redis.call('GET', KEYS[2]) ~= ARGV[2] then
  return 0
else
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[1])
end
if ARGV[3] ~= '' and redis.call('GET', KEYS[4]) ~= ARGV[3] then redis.call('SET', KEYS[4], ARGV[3]) end
return 1
"""

_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[3], ARGV[1])
end
return 0
"""


class RedisLease:
    """Satisfies `Lease`."""

    def __init__(self, client: Client, prefix: str, ttl_s: float, operation_s: float) -> None:
        """`operation_s`: the longest that a command of this writer can go on when nobody waits for it any more."""
        self._client = client
        self._keys = [f"{prefix}:writer{name}" for name in ("", ":epoch", ":clean", ":operation")]
        self._ttl_ms = int(ttl_s * 1000)
        self._operation_ms = int(operation_s * 1000)
        self._epoch = 0
        self._acquire = client.register_script(_ACQUIRE)
        self._renew = client.register_script(_RENEW)
        self._release = client.register_script(_RELEASE)

    @property
    def ttl_s(self) -> float:
        return self._ttl_ms / 1000

    async def acquire(self) -> Grant | None:
        async with reading(self._client):  # if it was taken and no answer came, it runs out by itself
            arguments = [self._ttl_ms, LONGEST_LEASE_S * 1000, self._operation_ms]
            epoch, under_way_ms = await self._acquire(keys=self._keys, args=arguments)
        if not epoch:
            return None
        self._epoch = int(epoch)
        return Grant(self._epoch, under_way_ms / 1000)

    async def renew(self, *, alone: bool = False) -> bool:
        arguments = [self._ttl_ms, self._epoch, self._operation_ms if alone else ""]
        async with reading(self._client):
            return bool(await self._renew(keys=self._keys, args=arguments))

    async def release(self) -> None:
        async with reading(self._client):
            await self._release(keys=self._keys, args=[self._epoch])

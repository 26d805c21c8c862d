"""The format of a log: one number for the forms of everything that is kept in Redis under a prefix, as `format`.

A version reads every format up to its own, and marks the log with its own when it opens it. None has been marked before
the number came, so a log without one is older than all.
"""

from __future__ import annotations

from actors.adapters.redis_link import Client, place, reading
from actors.core.errors import LogUnavailable

FORMAT = 1
"""To be raised when something is kept in a form that the versions of this number would not read, or would misread."""


def guard(key: int, argument: int) -> str:
    """How every script begins that changes whose a log is: it answers with the format, and does nothing else, where
    that is higher than ours, or no number. KEYS[key] is the format's, ARGV[argument] `FORMAT`."""
    return f"""
local format = redis.call('GET', KEYS[{key}])
if format and (tonumber(format) or math.huge) > tonumber(ARGV[{argument}]) then return format end
"""


async def refusal(client: Client, prefix: str) -> LogUnavailable | None:
    """Why this version does not read the log; None if it does. Raises `LogUnavailable` if Redis does not answer."""
    async with reading(client):
        found = await client.eval(guard(1, 1), 1, f"{prefix}:format", FORMAT)
    return None if found is None else newer(client, prefix, found)


def newer(client: Client, prefix: str, found: bytes) -> LogUnavailable:
    """Why a log of the format `found` is not opened, and what is to be done."""
    where = place(client.connection_pool.connection_kwargs)
    format_ = found.decode(errors="replace")
    return LogUnavailable(
        f"the log under the key prefix {prefix} in the Redis at {where} has format {format_}, so a newer version has "
        f"written it; this one reads formats up to {FORMAT}. Start the newer version again. To go back nevertheless, "
        "drain with that one, and start this one under another SPILLWAY_KEY_PREFIX "
        '("Upgrade, and back" in docs/operations.md)',
        5.0,
    )

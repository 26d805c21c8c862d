"""How this process talks to Redis: time-outs, the absence of hidden retries and the meaning of errors, in one place."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    RedisError,
    ResponseError,
)

from actors.adapters.cancellation import heeding_cancellation
from actors.core.errors import Fenced, LogUnavailable, OutcomeUnknown, UnsafeLog

Client = Any  # redis-py types every protocol and every decoding at once; ours is bytes, always

# What a round trip that came to nothing may raise. A RuntimeError is what uvloop raises for a write to a connection
# that has just been reset, and redis-py passes it on.
BROKEN = (RedisError, OSError, RuntimeError)

FENCED = "FENCED"  # what our scripts answer to an owner whose time is over

# What Redis says instead of doing anything, by its first word.
_REFUSES = re.compile(
    "(?:NOSCRIPT|OOM|READONLY|MISCONF|NOREPLICAS|BUSY|LOADING|NOAUTH|WRONGPASS|NOPERM|WRONGTYPE|EXECABORT|MASTERDOWN|"
    "CLUSTERDOWN|MOVED|ASK|TRYAGAIN|CROSSSLOT) "
)
# A script that fails is not undone. These it is told of its first write only (scripting.c, and script.c since Redis 7);
# 6.2 puts them behind words of its own.
_BEFORE_A_SCRIPT_WRITES = re.compile(r"(?:^|-)(?:OOM|READONLY|MISCONF|NOREPLICAS) ")
_WITHIN_A_SCRIPT = "user_script"  # where it failed

_connected: ContextVar[list[bool] | None] = ContextVar("_connected", default=None)


class _Pool(BlockingConnectionPool):
    """Notes that a connection was had: before that, a failure surely left Redis untouched. And one clock runs for a
    whole round trip (`telling`): redis-py's `socket_timeout` would run for each step, at the price of a task a command.
    """

    def __init__(self, *, round_trip_s: float, **options: Any) -> None:
        super().__init__(**options)
        self.round_trip_s = round_trip_s

    async def get_connection(self, *arguments: Any, **options: Any) -> Any:
        connection = await super().get_connection(*arguments, **options)  # type: ignore[no-untyped-call]
        flag = _connected.get()
        if flag is not None:
            flag.append(True)
        return connection


def connect(url: str, timeout_s: float) -> Client:
    """A client that connects on use. It never repeats a command by itself: a repeated append is one more append.

    Who finds all connections busy waits for one, at most `timeout_s`: many questions at once are no fault of Redis.
    """
    pool = _Pool.from_url(
        url,
        round_trip_s=timeout_s,
        socket_timeout=None,
        socket_connect_timeout=min(1.0, timeout_s),
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        max_connections=32,
        timeout=timeout_s,
    )
    return Redis.from_pool(pool)


def place(options: Mapping[str, Any]) -> str:
    """Which server a pool of these `connection_kwargs` asks, and which of its databases: no name, password or more."""
    server = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
    return f"{server}/{options.get('db', 0)}"


@asynccontextmanager
async def telling(client: Client) -> AsyncIterator[None]:
    """Run one round trip to Redis within the client's time and tell its failures apart.

    Raises `LogUnavailable` when nothing was done (no connection, or Redis refused it), `OutcomeUnknown` when it may
    have been done, or a part of it, `Fenced` when a script said so.
    """
    connected: list[bool] = []
    token = _connected.set(connected)
    try:
        with heeding_cancellation():
            async with asyncio.timeout(client.connection_pool.round_trip_s):
                yield
    except ResponseError as error:
        if str(error).startswith(FENCED):
            raise Fenced(f"a newer owner has taken over: {error}") from error
        if not connected or _nothing_was_done(error):
            raise LogUnavailable(f"Redis refuses: {error}", 2.0) from error
        raise OutcomeUnknown(f"Redis failed: {error}", 2.0) from error
    except (BusyLoadingError, AuthenticationError) as error:
        raise LogUnavailable(f"Redis refuses: {error}", 2.0) from error
    except BROKEN as error:  # also an answer that the client cannot make sense of
        why = str(error) or "the time is up"
        if not connected:
            raise LogUnavailable(f"no connection to Redis: {why}", 1.0) from error
        raise OutcomeUnknown(f"Redis did not answer: {why}", 1.0) from error
    finally:
        _connected.reset(token)


def _nothing_was_done(error: ResponseError) -> bool:
    """For sure; what is said in words we do not know, by a proxy for one, may have come in the middle."""
    said = f"{error.status_code} {error}" if error.status_code else str(error)  # redis-py cuts off what it knows
    if _WITHIN_A_SCRIPT in said:
        return _BEFORE_A_SCRIPT_WRITES.search(said) is not None
    return _REFUSES.match(said) is not None


@asynccontextmanager
async def reading(client: Client) -> AsyncIterator[None]:
    """Like `telling`, for a round trip that keeps nothing or may be done twice: no answer is `LogUnavailable` too."""
    try:
        async with telling(client):
            yield
    except OutcomeUnknown as error:
        raise LogUnavailable(str(error), 1.0) from error


SAFE = {
    "appendonly": "yes",
    "appendfsync": "always",
    "no-appendfsync-on-rewrite": "no",  # "yes" suspends even `always` while the file is rewritten
    "maxmemory-policy": "noeviction",
}
"""What a 2xx stands on; a Redis that is configured otherwise is refused. 6.2 tells one setting at a time."""
OLDEST_VERSION = (6, 2)
"""XTRIM MINID and ranges without their first entry came with it: on an older one no log opens."""


def too_old(server: Mapping[str, Any]) -> str:
    """What is wrong with the version that `INFO server` tells; empty when nothing is, or when it tells none."""
    version = str(server.get("redis_version", ""))
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) >= OLDEST_VERSION:
        return ""
    return f"redis_version is {version}, must be {OLDEST_VERSION[0]}.{OLDEST_VERSION[1]} or newer"


def wrong_settings(found: Mapping[str, str | None]) -> dict[str, str]:
    """Of the settings `found`, each that is not as in `SAFE`, by its name: what it is and must be."""
    return {
        name: f"{name} is {found.get(name)!r}, must be {value!r}"
        for name, value in SAFE.items()
        if found.get(name) != value
    }


def unsafe(found: Mapping[str, str | None]) -> str:
    """What is wrong with a Redis of these settings, and how to mend it; empty when a 2xx may stand on it."""
    wrong = wrong_settings(found)
    if not wrong:
        return ""
    fixes = "; ".join(f"CONFIG SET {name} {SAFE[name]}" for name in wrong)
    return (
        f"this Redis may lose acknowledged writes: {', '.join(wrong.values())}. Fix: {fixes}; and keep it in its "
        "configuration file."
    )


async def refuse_unsafe(client: Client, known: str = "") -> str:
    """Raise `UnsafeLog` when this Redis is too old, or could lose or evict what it acknowledged; each reason is named.

    Returns which process it is, empty when it hides that. Raises `LogUnavailable` when it does not answer, or writes
    its append-only file anew: after `CONFIG SET appendonly yes` it says yes at once, and keeps nothing in the file
    before that has ended (AOF_WAIT_REWRITE in its aof.c). An ordinary rewrite looks the same from outside. That of the
    process `known` to be safe is one, and may be why the log was away; another is waited for too.
    """
    process = ""
    async with reading(client):
        with suppress(ResponseError):  # it may be hidden: then the log itself will show
            server = await client.info("server")
            if old := too_old(server):
                raise UnsafeLog(f"this Redis cannot hold the log: {old}. Install a newer one.")
            process = str(server.get("run_id", ""))
        try:
            found = {name: (await client.config_get(name)).get(name) for name in SAFE}
        except ResponseError as error:
            raise UnsafeLog(
                f"this Redis does not tell its settings ({error}), so its durability cannot be checked. Make sure of "
                f"{', '.join(f'{name} {value}' for name, value in SAFE.items())}; "
                "SPILLWAY_ALLOW_UNSAFE_REDIS=true starts then."
            ) from error
    if wrong := unsafe(found):
        raise UnsafeLog(f"{wrong} For development only, SPILLWAY_ALLOW_UNSAFE_REDIS=true starts all the same.")
    if process and process == known:
        return process
    async with reading(client):
        with suppress(ResponseError):
            file = await client.info("persistence")
            if file.get("aof_rewrite_in_progress") or file.get("aof_rewrite_scheduled"):
                raise LogUnavailable("Redis writes its append-only file anew and may keep nothing until it has", 1.0)
    return process

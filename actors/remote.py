"""The Ray shells. Each builds one service with its adapters and lives as long as the service does.

An error of ours is *returned*, not raised: Ray wraps raised ones in a traceback, which costs milliseconds
under overload.
A service whose background work dies ends its process, so that Ray restarts it: a half-dead actor would go on answering.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from actors.adapters.clock import SystemClock
from actors.adapters.mongo_store import MongoStore
from actors.adapters.redis_cache import RedisCache
from actors.adapters.redis_dead_letters import RedisDeadLetters
from actors.adapters.redis_lease import RedisLease
from actors.adapters.redis_link import connect
from actors.adapters.redis_log import RedisLog
from actors.adapters.redis_streams import follow, is_owner, is_poured, streams
from actors.adapters.telemetry import RayTelemetry
from actors.appends import Bounds, Kept
from actors.budget import Budget
from actors.buffer import Buffer
from actors.calls import ActorAway, Remote
from actors.channel import ChannelServer
from actors.core.arrivals import LaneCall
from actors.core.batching import BatchPolicy, Command
from actors.core.dead_letter import DeadLetter, Page, Selection
from actors.core.errors import AnswerTooLarge, LogUnavailable, OutcomeUnknown, SpillwayError
from actors.core.intake import Found, State
from actors.core.outcome import Report
from actors.core.ports import Keyed, Resolved
from actors.core.sharding import heir_of, pool_of, shard_of, stream_of
from actors.life import calm_collector, live
from actors.outbox import Outbox
from actors.remote_sink import RemoteSink
from actors.tenure import Tenure
from actors.writer import Writer

T = TypeVar("T")
log = logging.getLogger("spillway")


@dataclass(frozen=True, slots=True)
class BufferConfig:
    """All that one BufferActor has to know."""

    stream: str
    index: int
    shards: int
    redis_url: str
    redis_timeout_s: float
    key_prefix: str
    allow_unsafe_redis: bool
    once_ttl_s: int
    once_max: int
    cache_ttl_s: int
    cache_max_entries: int
    policy: BatchPolicy
    bounds: Bounds
    writer_name: str
    namespace: str


@dataclass(frozen=True, slots=True)
class WriterConfig:
    """All that the MongoWriter has to know."""

    mongodb_uri: str
    mongodb_timeout_s: float
    write_concern: str
    redis_url: str
    redis_timeout_s: float
    key_prefix: str
    lease_s: float
    limit: int
    lanes: int
    max_writes: int
    max_bytes: int
    operation_bytes: int
    counted: tuple[str, ...]


class BufferActor:
    """One buffer, as a Ray actor."""

    def __init__(self, config: BufferConfig) -> None:
        calm_collector()
        self._config = config
        self._redis = connect(config.redis_url, config.redis_timeout_s)
        self._shelf = RedisDeadLetters(self._redis, config.key_prefix)
        self._buffer: Buffer | None = None
        # Away, so that a call waits for it: what it has been asked since its start has surely not begun.
        self._trouble: SpillwayError = ActorAway("the buffer is still reading its log")
        self._life = asyncio.create_task(live(self._live()))
        self._channel = asyncio.create_task(ChannelServer(self).open())

    async def channel(self) -> str:
        """The name under which it answers calls on this machine without Ray."""
        return await asyncio.shield(self._channel)

    async def append(self, sent: LaneCall, payload: bytes, writes: int, keyed: list[Keyed]) -> Kept | SpillwayError:
        return await self._asking(lambda buffer: buffer.append(sent, payload, writes, keyed))

    async def wait_for(self, position: str, timeout_s: float) -> Resolved | SpillwayError:
        return await self._asking(lambda buffer: buffer.wait_for(position, timeout_s))

    async def states(self, stream: str, places: list[str]) -> list[State | SpillwayError] | SpillwayError:
        return await self._asking(lambda buffer: buffer.states(stream, places))

    async def read_near(self, namespace: str, ids: list[str]) -> list[Found | SpillwayError | None] | SpillwayError:
        return await self._asking(lambda buffer: buffer.read_near(namespace, ids))

    async def read(self, namespace: str, ids: list[str]) -> list[Found | SpillwayError] | SpillwayError:
        return await self._asking(lambda buffer: buffer.read(namespace, ids))

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]] | SpillwayError:
        return await self._asking(lambda buffer: buffer.sample(namespace, limit))

    async def stats(self) -> dict[str, Any] | SpillwayError:
        return self._trouble if self._buffer is None else self._buffer.stats()

    async def drain(self, timeout_s: float) -> int | SpillwayError:
        """Refuse new writes; returns how many writes are left when all is poured or the time is up."""
        return await self._asking(lambda buffer: buffer.drain(timeout_s))

    async def dead_letters(self, selection: Selection, limit: int, after: str) -> Page | SpillwayError:
        return await _returning(self._shelf.list(selection, limit, after))

    async def dead_letter(self, id: str) -> DeadLetter | SpillwayError | None:
        return await _returning(self._shelf.get(id))

    async def forget_dead_letters(self, ids: list[str]) -> int | SpillwayError:
        return await _returning(self._shelf.remove(ids))

    async def count_dead_letters(self) -> int | SpillwayError:
        return await _returning(self._shelf.size())

    async def pid(self) -> int:
        return os.getpid()

    async def _asking(self, question: Callable[[Buffer], Awaitable[T]]) -> T | SpillwayError:
        """The buffer's answer, or what keeps it from answering."""
        return self._trouble if self._buffer is None else await _returning(question(self._buffer))

    async def _live(self) -> None:
        buffer = await self._open()
        self._buffer = buffer
        await buffer.run()

    async def _open(self) -> Buffer:
        """Try until the log can be opened. An unsafe Redis is refused for as long as it is unsafe."""
        while True:
            try:
                await self._let_older_pools_end()
                buffer = await self._build()
                await buffer.open()
                return buffer
            except SpillwayError as error:
                self._trouble = error
                log.error("%s cannot open its log: %s", self._config.stream, error)
                await asyncio.sleep(0.5)

    async def _let_older_pools_end(self) -> None:
        """Two changes of the pool's size with a backlog: the oldest pool's streams are poured before this one begins,
        and its writes are refused meanwhile (docs/decisions/0001)."""
        config = self._config
        while left := await follow(self._redis, config.key_prefix, config.shards):
            self._trouble = LogUnavailable(f"the pool before the last one is still poured: {', '.join(left)}", 5.0)
            await self._buffer_of(left).pour_heritage()
            await asyncio.sleep(0.2)

    async def _build(self) -> Buffer:
        config = self._config
        older = [name for name in await streams(self._redis, config.key_prefix) if pool_of(name) != config.shards]
        heirs = {name: stream_of(heir_of(name, config.shards), config.shards) for name in older}
        poured = dict.fromkeys(older, False)

        async def predecessors_empty() -> bool:
            for name, heir in heirs.items():
                try:
                    poured[name] = poured[name] or await is_poured(self._redis, config.key_prefix, name, heir)
                except (LogUnavailable, OutcomeUnknown):
                    return False
            return all(poured.values())

        return self._buffer_of(older, predecessors_empty)

    def _buffer_of(self, older: list[str], predecessors_empty: Callable[[], Awaitable[bool]] | None = None) -> Buffer:
        """With those of the `older` streams that fall to it."""
        config = self._config
        return Buffer(
            self._log(config.stream),
            RemoteSink(Remote(config.writer_name, config.namespace)),
            RedisCache(
                self._redis, config.key_prefix, config.stream, config.cache_ttl_s, config.cache_max_entries
            ),
            self._shelf,
            SystemClock(),
            RayTelemetry(config.stream),
            config.policy,
            config.bounds,
            inherited=[self._log(name) for name in older if heir_of(name, config.shards) == config.index],
            predecessors_empty=predecessors_empty,
            owns=lambda key: shard_of(key, config.shards) == config.index,
        )

    def _log(self, stream: str) -> RedisLog:
        config = self._config
        return RedisLog(
            self._redis,
            config.key_prefix,
            stream,
            self._shelf,
            once_ttl_s=config.once_ttl_s,
            once_max=config.once_max,
            allow_unsafe=config.allow_unsafe_redis,
            owner=config.stream,
        )


class MongoWriter:
    """The writer, as a Ray actor: the only process that ever talks to MongoDB."""

    def __init__(self, config: WriterConfig) -> None:
        calm_collector()
        clock = SystemClock()
        self._redis = connect(config.redis_url, config.redis_timeout_s)
        owns = partial(is_owner, self._redis, config.key_prefix)
        self._writer = Writer(
            MongoStore(
                config.mongodb_uri,
                timeout_s=config.mongodb_timeout_s,
                lanes=config.lanes,
                write_concern=config.write_concern,
            ),
            Outbox(config.max_writes, config.max_bytes, owns, cuts=config.operation_bytes > 0),
            Budget(
                config.limit, config.lanes, config.mongodb_timeout_s, clock, config.operation_bytes, config.max_bytes
            ),
            Tenure(RedisLease(self._redis, config.key_prefix, config.lease_s, config.mongodb_timeout_s), clock),
            clock,
            RayTelemetry("writer"),
            lanes=config.lanes,
            counted=config.counted,
        )
        self._run = asyncio.create_task(self._writer.run())
        self._life = asyncio.create_task(live(self._run))
        self._channel = asyncio.create_task(ChannelServer(self).open())

    async def channel(self) -> str:
        """The name under which it answers calls on this machine without Ray."""
        return await asyncio.shield(self._channel)

    async def write(self, commands: list[Command]) -> list[Report] | SpillwayError:
        return await _returning(self._writer.write(commands))

    async def find(self, namespace: str, ids: list[str]) -> list[bytes | AnswerTooLarge | None] | SpillwayError:
        return await _returning(self._writer.find(namespace, ids))

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]] | SpillwayError:
        return await _returning(self._writer.sample(namespace, limit))

    async def stats(self) -> dict[str, Any]:
        return self._writer.stats()

    async def release(self) -> None:
        """Stop sending and give the lease back. Only after the buffers are drained; the actor is of no use then."""
        self._life.cancel()
        self._run.cancel()
        await asyncio.wait([self._run])
        await self._writer.close()

    async def pid(self) -> int:
        return os.getpid()


async def _returning(work: Awaitable[T]) -> T | SpillwayError:
    try:
        return await work
    except SpillwayError as error:
        # they cannot all be pickled, and nobody reads them
        error.__traceback__ = error.__cause__ = error.__context__ = None
        return error

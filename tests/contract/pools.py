"""Pools of buffers after each other on one real Redis, in one process and under a clock set by hand: the real
BufferActor and the real Writer, without Ray."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import cycle
from typing import Any, NamedTuple

import bson
import pytest
import redis

from actors import remote
from actors.adapters.clock import ManualClock, settle
from actors.adapters.memory import MemoryLease, MemoryStore, RecordingTelemetry
from actors.adapters.redis_streams import is_owner
from actors.budget import Budget
from actors.core.batching import Command
from actors.core.document import Key, encode_writes
from actors.core.errors import CommandNotSent, Fenced, WriterUnavailable
from actors.core.outcome import Report
from actors.core.sharding import shard_of
from actors.outbox import Outbox
from actors.tenure import Tenure
from actors.writer import Writer
from cluster import launch
from cluster.settings import load
from tests.contract.redis_at_once import at_once
from tests.unit.composed import LANES, LIMIT, NAMESPACE, end, only_call, outlives, put, until

LATE_S = 1.5
SIZES = (1, 2, 3)


@cache
def configs(size: int) -> list[remote.BufferConfig]:
    return launch.buffer_configs(load(allow_unsafe_redis=True, buffers=size), "no-writer")


class Applied(MemoryStore):
    """Notes each version of each document, in the order they came."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.is_away = False
        self.versions: dict[str, list[int]] = {}
        self.twice: list[list[str]] = []  # commands that name a document twice: MongoDB may take them in any order

    def _note(self, verb: str, writes: int = 0) -> None:
        self._refuse()
        super()._note(verb, writes)

    async def probe(self) -> None:
        self._refuse()

    def _refuse(self) -> None:
        if self.is_away:
            raise CommandNotSent("away")

    def _apply(self, command: Command) -> Report:
        if len(set(command.ids)) < len(command.ids):
            self.twice.append(command.ids)
        for id_, body in zip(command.ids, command.bodies, strict=True):
            self.versions.setdefault(id_, []).append(number_of(body))
        return super()._apply(command)


def number_of(body: bytes) -> int:
    number: int = bson.decode(body)["n"]
    return number


class Sent(NamedTuple):
    """A write, the stream of the buffer that it was given to, and what that answers."""

    key: str
    number: int
    stream: str
    answer: asyncio.Task[Any]


class Part:
    """One buffer, as Ray lets it live."""

    def __init__(self, config: remote.BufferConfig, starts: Awaitable[None] | None = None) -> None:
        self.config = config
        self.actor: Any = None
        self.life = asyncio.create_task(self._live(starts))

    async def _live(self, starts: Awaitable[None] | None) -> None:
        if starts is not None:
            await starts
        self.actor = remote.BufferActor(self.config)
        await self.actor._life

    @property
    def takes_calls(self) -> bool:
        return self.actor is not None and not self.life.done()

    @property
    def is_idle(self) -> bool:
        buffer = self.actor and self.actor._buffer
        return buffer is not None and not self.life.done() and buffer.stats()["writes"] == 0

    def owns(self, key: str) -> bool:
        return shard_of(Key(NAMESPACE, key), self.config.shards) == self.config.index

    async def kill(self) -> None:
        self.life.cancel()
        await asyncio.wait([self.life])

    def fault(self) -> BaseException | None:
        """What it died of, if not of a newer owner."""
        error = self.life.exception() if self.life.done() and not self.life.cancelled() else None
        return None if isinstance(error, Fenced) else error


class Way:
    """The writer as a buffer knows it. A call that has left goes on when its caller dies. Satisfies `BatchSink`."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    async def write(self, commands: Sequence[Command]) -> list[Report]:
        call = asyncio.create_task(self._arrive(commands))
        self._pools.under_way.add(call)
        call.add_done_callback(self._over)
        return await asyncio.shield(call)

    def _over(self, call: asyncio.Task[Any]) -> None:
        self._pools.under_way.discard(call)
        if not call.cancelled():
            call.exception()  # its caller may be dead

    async def _arrive(self, commands: Sequence[Command]) -> list[Report]:
        writer, death = self._pools.writer, self._pools.death
        await self._pools.clock.sleep(next(self._pools.ways))
        call = asyncio.create_task(writer.write(commands))
        if not await outlives(call, death):
            call.cancel()
            raise WriterUnavailable("it is being restarted")
        return call.result()


class Pools:
    """What there is of the service: the pool of now, what goes on of those before, and the writer."""

    def __init__(self, url: str, ways: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
        """`ways`: how many seconds a batch is on its way to the writer, one after the other."""
        self.ways = cycle(ways)
        self.clock = ManualClock()
        self.prefix = f"t{uuid.uuid4().hex[:12]}"
        self.redis = redis.Redis.from_url(url, single_connection_client=True)
        self.store = Applied(self.clock)
        self.lease = MemoryLease(self.clock, operation_s=0.5)
        self.new_writer()
        self.under_way: set[asyncio.Task[Any]] = set()
        self.present: list[Part] = []
        self.former: list[Part] = []
        self.dead: list[Part] = []  # of the present pool, each with its successor
        self.sent: list[Sent] = []
        self._without_ray(monkeypatch)

    def new_writer(self) -> None:
        self.death = asyncio.Event()
        self.writer = Writer(
            self.store,
            Outbox(1_000, 1 << 20, partial(is_owner, at_once(self.redis), self.prefix)),
            Budget(LIMIT, LANES, 0.5, self.clock),
            Tenure(self.lease, self.clock),
            self.clock,
            RecordingTelemetry(),
            lanes=LANES,
        )
        self.writing = asyncio.create_task(self.writer.run())

    async def kill_writer(self) -> None:
        await end(self.writing, *self.writer._tasks.under_way)
        self.death.set()
        await settle()
        self.lease = self.lease.another()
        self.new_writer()

    def _without_ray(self, monkeypatch: pytest.MonkeyPatch) -> None:
        yield_to_others = asyncio.sleep

        async def sleep(seconds: float) -> None:
            await (self.clock.sleep(seconds) if seconds > 0 else yield_to_others(0))

        async def live(work: Any) -> None:
            await work

        class Nobody:
            def __init__(self, _: object) -> None: ...

            async def open(self) -> str:
                return ""

        monkeypatch.setattr(asyncio, "sleep", sleep)
        monkeypatch.setattr(remote, "live", live)  # which would end this process
        monkeypatch.setattr(remote, "calm_collector", lambda: None)
        monkeypatch.setattr(remote, "connect", lambda *_: at_once(self.redis))
        monkeypatch.setattr(remote, "ChannelServer", Nobody)
        monkeypatch.setattr(remote, "SystemClock", lambda: self.clock)
        monkeypatch.setattr(remote, "RayTelemetry", lambda _: RecordingTelemetry())
        monkeypatch.setattr(remote, "RemoteSink", lambda _: Way(self))

    @property
    def parts(self) -> list[Part]:
        return self.present + self.former

    async def resize(self, size: int, old: str = "killed", *, first_late: bool = False) -> None:
        """`old`: what becomes of those of before, see `leave`. `first_late`: the heir of most streams begins only after
        a while."""
        for part in self.present:
            await self.leave(part, old)
        self.present = [
            Part(replace(config, key_prefix=self.prefix), self.late(first_late and not config.index))
            for config in configs(size)
        ]
        await settle()

    async def late(self, is_late: bool) -> None:
        if is_late:
            await self.clock.sleep(LATE_S)

    async def leave(self, part: Part, how: str) -> None:
        """A buffer that gets a successor is "killed", "goes on", or is "cut off" from Redis and hears nothing of it."""
        if how == "killed" or not part.takes_calls:
            await part.kill()
            return
        part.actor._redis.is_cut_off = how == "cut off"
        self.former.append(part)

    async def replace(self, index: int, old: str) -> None:
        """By another one of the same stream; `old` as in `leave`."""
        at = index % len(self.present)
        await self.leave(self.present[at], old)
        self.present[at] = Part(self.present[at].config)
        await settle()

    def restart_dead(self) -> None:
        """As Ray does it, for as long as they are of the pool."""
        for at, part in enumerate(self.present):
            if part.life.done():
                self.dead.append(part)
                self.present[at] = Part(part.config)

    async def write(self, key: str, parts: Sequence[Part]) -> None:
        """By the newest of `parts` that has the key."""
        part = next((part for part in reversed(parts) if part.takes_calls and part.owns(key)), None)
        if part is not None:
            number = len(self.sent)
            payload = encode_writes([put(key, n=number)])
            answer = asyncio.create_task(part.actor.append(only_call(1), payload, 1, []))
            self.sent.append(Sent(key, number, part.config.stream, answer))
            await settle()

    async def come_to_rest(self) -> None:
        """All is poured and nothing is under way."""
        self.store.is_away = False
        await self.clock.advance(0.5)
        for part in self.former:
            await part.kill()
        await until(self._rests, self.clock, 0.5, 120.0)

    def _rests(self) -> bool:
        self.restart_dead()
        return not self.under_way and not self.left and all(part.is_idle for part in self.present)

    @property
    def left(self) -> list[str]:
        """Streams that hold something."""
        names = sorted(name.decode() for name in self.redis.smembers(f"{self.prefix}:streams"))
        return [name for name in names if self.redis.xlen(f"{self.prefix}:stream:{name}")]

    def openings(self, key: str) -> int:
        """How often one of the streams of `key` was opened, by whatever buffer."""
        streams = {f"{shard_of(Key(NAMESPACE, key), size)}of{size}" for size in SIZES}
        return sum(int(self.redis.get(f"{self.prefix}:owner:{stream}") or 0) for stream in streams)

    async def stop(self) -> None:
        for part in self.parts:
            await part.kill()
        await end(self.writing, *self.writer._tasks.under_way, *self.under_way, *(sent.answer for sent in self.sent))
        self.redis.close()

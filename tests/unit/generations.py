"""Generations of writers against one server: each with the real Budget, Tenure and Writer, and its own view of time,
Redis and MongoDB, so that it can be killed, closed, cut off or stopped at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import cycle
from typing import Any, NamedTuple

from composed import end, until

from actors.adapters.clock import ManualClock
from actors.adapters.memory import MemoryLease, RecordingTelemetry
from actors.budget import Budget
from actors.core.batching import Command, Origin, Verb
from actors.core.errors import CommandFailed, CommandNotSent, CommandUnknown, LogUnavailable
from actors.core.outcome import Outcome, Report
from actors.outbox import Outbox
from actors.tenure import Tenure
from actors.writer import Writer

R, LANES, OPERATION_S, LEASE_S = 6, 2, 0.5, 0.6


class Fate(NamedTuple):
    """What becomes of one command."""

    name: str  # "answered", "failed", "lost" (executed, never answered) or "not sent"
    opening_s: float  # from the last look at the lease until it leaves: a connection is opened
    latency_s: float  # from the send until the sender hears of it, or gives up
    where: float  # when in that time it is executed
    late_s: float  # how long after its sender gave up or died it is executed


class Life(NamedTuple):
    """One generation of the writer."""

    seconds: float
    end: str  # "killed", "closed", "cut off" from Redis, or "stopped" and cut off when it wakes up
    stopped_s: float


class Server:
    """Notes when it executes what it was sent, whatever becomes of the sender."""

    def __init__(self, clock: ManualClock, fates: list[Fate]) -> None:
        self.executed: list[int] = []
        self.received: list[tuple[Process, int]] = []
        self.clock = clock
        self.fates = cycle(fates)
        self.under_way: dict[Process, dict[asyncio.Task[None], tuple[Fate, int]]] = {}

    def receive(self, sender: Process, fate: Fate, cost: int) -> None:
        self.received.append((sender, self.clock.now_ns()))
        late_s = fate.late_s if fate.name == "lost" else 0.0
        self._execute(sender, fate, cost, fate.where * fate.latency_s if not late_s else fate.latency_s + late_s)

    def abandon(self, sender: Process) -> None:
        """It died: what it had sent and was not executed yet is executed later."""
        for task, (fate, cost) in list(self.under_way.pop(sender, {}).items()):
            task.cancel()
            self._execute(sender, fate, cost, fate.late_s)

    def _execute(self, sender: Process, fate: Fate, cost: int, seconds: float) -> None:
        async def execute() -> None:
            await self.clock.sleep(seconds)
            self.executed += [self.clock.now_ns()] * cost

        task = asyncio.create_task(execute())
        under_way = self.under_way.setdefault(sender, {})
        under_way[task] = (fate, cost)
        task.add_done_callback(lambda done: under_way.pop(done, None))


class Process:
    """A writer with its own view of time, lease and server, none of which goes on while it is stopped."""

    def __init__(
        self, server: Server, lease: MemoryLease, flaw: Callable[[Process], None], operation_s: float = OPERATION_S
    ) -> None:
        self.server, self.lease, self.clock = server, lease, server.clock
        self.goes_on, self.connects = asyncio.Event(), asyncio.Event()
        self.goes_on.set()
        self.connects.set()
        self.reaches_redis = True
        self.ttl_s = lease.ttl_s
        self.find_limit = self.update_limit = 1
        self.budget = Budget(R, LANES, operation_s, self)
        self.tenure = Tenure(self, self)
        flaw(self)
        outbox, telemetry = Outbox(1, 2, self.owns), RecordingTelemetry()
        self.writer = Writer(self, outbox, self.budget, self.tenure, self, telemetry, lanes=LANES)  # type: ignore[arg-type]
        self.calls = [
            asyncio.create_task(self.writer.write([Command(Verb.INSERT, f"d.c{i}", ["x"], [b"x" * (1 + i % 2)])]))
            for i in range(30)
        ]
        self.run = asyncio.create_task(self.writer.run())

    async def owns(self, origin: Origin) -> bool:
        raise AssertionError("these commands are of no stream")

    # Clock

    def now_ns(self) -> int:
        return self.clock.now_ns()

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)
        await self.goes_on.wait()

    # Lease

    async def acquire(self) -> Any:
        await self.goes_on.wait()
        return await self.lease.acquire()

    async def renew(self, *, alone: bool = False) -> bool:
        await self.goes_on.wait()
        if not self.reaches_redis:
            raise LogUnavailable("injected")
        return await self.lease.renew(alone=alone)

    async def release(self) -> None:
        await self.lease.release()

    # DocumentStore

    async def describe(self) -> None:
        await self._send(1)

    async def store(self, command: Command) -> Report:
        await self._send(self.budget.cost(sum(map(len, command.bodies))))
        return Report.all(Outcome.STORED, len(command.ids))

    async def probe(self) -> None:
        await self.goes_on.wait()

    async def close(self) -> None: ...

    async def _send(self, cost: int) -> None:
        fate = next(self.server.fates)
        await self.connects.wait()  # after the last look at the lease, before the send: the worst moment to be stopped
        await self.sleep(fate.opening_s)
        if fate.name == "not sent":
            raise CommandNotSent("injected")
        self.server.receive(self, fate, cost)
        await self.clock.sleep(fate.latency_s)
        await self.goes_on.wait()
        if fate.name == "lost":
            raise CommandUnknown("injected")
        if fate.name == "failed":
            raise CommandFailed("injected")

    # Ends

    async def die(self) -> None:
        await end(self.run, *self.writer._tasks.under_way, *self.calls)
        self.server.abandon(self)

    async def close_down(self) -> None:
        await end(self.run)
        closing = asyncio.create_task(self.writer.close())
        await until(closing.done, self.clock)
        await end(*self.calls)

    async def stop(self) -> None:
        """With as many commands between look and send as may be."""
        self.connects.clear()
        await self.clock.advance(1.2)
        self.reaches_redis = False
        self.goes_on.clear()

    async def wake_after(self, seconds: float) -> None:
        await self.clock.sleep(seconds)
        self.goes_on.set()
        self.connects.set()


def sound(_: Process) -> None:
    """No flaw."""


async def history(lives: list[Life], fates: list[Fate], flaw: Callable[[Process], None]) -> list[int]:
    clock = ManualClock()
    server, lease = Server(clock, fates), MemoryLease(clock, ttl_s=LEASE_S, operation_s=OPERATION_S)
    processes, stops = list[Process](), list[asyncio.Task[None]]()
    for life in lives:
        process = Process(server, lease, flaw)
        processes.append(process)
        lease = lease.another()
        await clock.advance(life.seconds)
        if life.end == "killed":
            await process.die()
        elif life.end == "closed":
            await process.close_down()
        elif life.end == "cut off":
            process.reaches_redis = False
        else:
            await process.stop()
            stops.append(asyncio.create_task(process.wake_after(life.stopped_s)))
    await clock.advance(2.0)
    for process in processes:
        await process.die()
    await clock.advance(1.0)
    await end(*stops)
    return server.executed

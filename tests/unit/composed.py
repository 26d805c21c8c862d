"""The whole service on doubles, under a clock that tests advance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import bson

from actors.adapters.clock import ManualClock, settle
from actors.adapters.memory import (
    MemoryCache,
    MemoryLease,
    MemoryLog,
    MemoryStore,
    RecordingTelemetry,
)
from actors.appends import Bounds, Kept
from actors.budget import Budget
from actors.buffer import Buffer
from actors.core.arrivals import LaneCall
from actors.core.batching import BatchPolicy, Command, Origin, Verb
from actors.core.document import Kind, Write, decode_writes, encode_writes
from actors.core.errors import AnswerTooLarge, LogUnavailable, WriterUnavailable
from actors.core.outcome import Outcome, Report
from actors.core.pacing import SECOND_NS
from actors.core.ports import Keyed
from actors.outbox import Outbox
from actors.tenure import Tenure
from actors.writer import Writer

NAMESPACE = "d.c"
LIMIT, LANES, OPERATION_S = 100, 4, 5.0
POLICY = BatchPolicy(max_writes=100, max_bytes=10_000, linger_s=0.05)
BOUNDS = Bounds(max_writes=1_000, max_bytes=100_000, group_writes=500, group_bytes=50_000, patience_s=4.0)


def insert(id_: str, **fields: Any) -> Write:
    return Write(Kind.INSERT, NAMESPACE, id_, bson.encode({"_id": id_, **fields}))


def put(id_: str, **fields: Any) -> Write:
    return Write(Kind.PUT, NAMESPACE, id_, bson.encode({"_id": id_, **fields}))


def patch(id_: str, **fields: Any) -> Write:
    return Write(Kind.PATCH, NAMESPACE, id_, bson.encode({"$set": fields}))


def delete(id_: str) -> Write:
    return Write(Kind.DELETE, NAMESPACE, id_, b"")


def keyed(key: str, *writes: Write, fingerprint: str = "f") -> Keyed:
    return Keyed(key, fingerprint, encode_writes(list(writes)))


def written(keys: Sequence[Keyed]) -> int:
    """Writes in all of these requests."""
    return sum(len(decode_writes(item.payload)) for item in keys)


_lanes = count()


def only_call(writes: int) -> LaneCall:
    """The only one that its lane ever makes."""
    return LaneCall(f"lane{next(_lanes)}", 1, writes)


def commands(*ids: str, verb: Verb = Verb.INSERT, body: bytes = b"x") -> list[Command]:
    """One command for these ids."""
    return [Command(verb, NAMESPACE, list(ids), [body] * len(ids))]


def worst_window(instants: Sequence[int], window_ns: int = SECOND_NS) -> int:
    """Most instants in any half-open window; written anew here, because a judge shares no code with the accused."""
    return max((sum(start <= instant < start + window_ns for instant in instants) for start in instants), default=0)


class ChoosyStore(MemoryStore):
    """Refuses what says so, whatever is there, and what does not fit what is there, as MemoryStore does."""

    def _apply(self, command: Command) -> Report:
        outcomes, reasons, grown = bytearray(), dict[int, str](), 0
        for index, (id_, body) in enumerate(zip(command.ids, command.bodies, strict=True)):
            is_copy = command.verb == Verb.INSERT and (command.namespace, id_) in self.documents
            if b"refused" in body and not is_copy:
                outcomes.append(Outcome.REJECTED)
                reasons[index] = "it says so"
                continue
            report = super()._apply(command._replace(ids=[id_], bodies=[body]))
            outcomes += report.outcomes
            if report.reasons:
                reasons[index] = report.reasons[0]
            grown += report.grown
        return Report(bytes(outcomes), reasons, grown)


class Handle:
    """The writer as a buffer knows it: a name behind which another process may stand tomorrow. Satisfies
    `BatchSink`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def write(self, commands: Sequence[Command]) -> list[Report]:
        reports: list[Report] = await self._ask("write", commands)
        return reports

    async def find(self, namespace: str, ids: Sequence[str]) -> list[bytes | AnswerTooLarge | None]:
        documents: list[bytes | AnswerTooLarge | None] = await self._ask("find", namespace, ids)
        return documents

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
        documents: list[tuple[str, bytes]] = await self._ask("sample", namespace, limit)
        return documents

    async def _ask(self, method: str, *arguments: Any) -> Any:
        """The call goes on at the writer when its caller dies; it ends with an error when the writer does."""
        death = self._service.death
        call = asyncio.ensure_future(getattr(self._service.writer, method)(*arguments))
        self._service.tasks.add(call)
        try:
            if not await outlives(call, death):
                raise WriterUnavailable("it is being restarted")
        except asyncio.CancelledError:
            call.add_done_callback(lambda done: done.cancelled() or done.exception())  # who asked is dead
            raise
        return call.result()


@dataclass
class Service:
    """Parts may be replaced before `start`, and killed and started again afterwards."""

    clock: ManualClock = field(default_factory=ManualClock)
    policy: BatchPolicy = POLICY
    bounds: Bounds = BOUNDS
    max_command_writes: int = 1_000
    counted: tuple[str, ...] = (NAMESPACE,)

    def __post_init__(self) -> None:
        self.log = MemoryLog(clock=self.clock)
        self.store = MemoryStore(self.clock)
        self.lease = MemoryLease(clock=self.clock, operation_s=OPERATION_S)
        self.cache = MemoryCache()
        self.telemetry = RecordingTelemetry()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.former_owners: set[str] = set()  # beside those that the writer has seen followed
        self.buffer_task: asyncio.Task[None] | None = None
        self.writer_task: asyncio.Task[None] | None = None
        self.new_writer()
        self.new_buffer()

    def new_writer(self) -> None:
        self.death = asyncio.Event()
        self.budget = Budget(LIMIT, LANES, OPERATION_S, self.clock)
        self.tenure = Tenure(self.lease, self.clock)
        self.writer = Writer(
            self.store,
            Outbox(self.max_command_writes, 1 << 20, self.owns),
            self.budget,
            self.tenure,
            self.clock,
            self.telemetry,
            lanes=LANES,
            counted=self.counted,
        )

    async def owns(self, origin: Origin) -> bool:
        return origin.owner not in self.former_owners

    def new_buffer(self, **more: Any) -> None:
        self.more = more
        self.buffer = Buffer(
            self.log,
            Handle(self),
            self.cache,
            self.log.shelf,
            self.clock,
            self.telemetry,
            self.policy,
            self.bounds,
            **more,
        )

    async def start_writer(self) -> None:
        self.writer_task = asyncio.create_task(self.writer.run())
        await settle()

    async def start_buffer(self) -> None:
        """Like the actor does it: until its log can be opened, each time from the beginning."""
        while True:
            try:
                await self.buffer.open()
                break
            except LogUnavailable:
                self.new_buffer(**self.more)
        self.buffer_task = asyncio.create_task(self.buffer.run())
        await settle()

    async def start(self) -> Service:
        await self.start_writer()
        await self.start_buffer()
        await self.clock.advance(1.1)  # the quarantine of a clean start, and the first questions
        return self

    async def kill_buffer(self) -> None:
        """The process ends: nothing of it goes on. What it had handed over goes on without it."""
        await end(self.buffer_task)
        self.log = self.log.another()

    async def kill_writer(self) -> None:
        await end(self.writer_task, *self.writer._tasks.under_way)
        self.death.set()
        await settle()
        self.lease = self.lease.another()

    async def restart_buffer(self, **more: Any) -> None:
        await self.kill_buffer()
        self.new_buffer(**more)
        await self.start_buffer()

    def append(self, *writes: Write, keys: Sequence[Keyed] = ()) -> asyncio.Task[Kept]:
        sent, payload = only_call(len(writes)), encode_writes(list(writes))
        task = asyncio.create_task(self.buffer.append(sent, payload, len(writes) + written(keys), keys))
        self.tasks.add(task)
        return task

    async def keep(self, *writes: Write, keys: Sequence[Keyed] = ()) -> Kept:
        """Append, and wait for the answer without letting time pass."""
        task = self.append(*writes, keys=keys)
        await settle()
        return answer(task)

    async def stop(self) -> None:
        await end(self.buffer_task, self.writer_task, *self.writer._tasks.under_way, *self.tasks)

    @property
    def sent(self) -> list[tuple[str, int]]:
        """What the database was asked, and for how many writes; without the questions of the start."""
        return [(verb, writes) for _, verb, writes in self.store.commands if verb not in ("describe", "count")]

    @property
    def stored(self) -> dict[str, dict[str, Any]]:
        return {
            id_: {name: value for name, value in bson.decode(body).items() if name != "_id"}
            for (_, id_), body in self.store.documents.items()
        }


async def outlives(call: asyncio.Future[Any], death: asyncio.Event) -> bool:
    """Wait until it is done, or until the death of whoever does it; is it done?"""
    dying = asyncio.create_task(death.wait())
    try:
        await asyncio.wait({call, dying}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        dying.cancel()
    return call.done() and not call.cancelled()


def answer(task: asyncio.Task[Any]) -> Any:
    """What a task came to without anybody having waited for it."""
    assert task.done(), "no answer yet"
    return task.result()


async def until(condition: Callable[[], object], clock: ManualClock, step_s: float = 0.01, most_s: float = 60) -> None:
    """Let time pass in steps until something is so."""
    for _ in range(round(most_s / step_s)):
        if condition():
            return
        await clock.advance(step_s)
    raise AssertionError(f"still not so after {most_s:g} s")


async def end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel them; then raise what one had failed with before, if nobody was told. No test is green beside that."""
    some = [task for task in tasks if task is not None]
    untold = [task for task in some if task.done() and not task.cancelled() and task._log_traceback]
    for task in some:
        task.cancel()
        with suppress(BaseException):
            await task
    for task in untold:
        task.result()

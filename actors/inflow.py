"""Inflow: from a buffer's callers into the log. Nothing is answered before it is on disk."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from actors.backlog import Backlog
from actors.core.batching import Entry
from actors.core.document import decode_writes
from actors.core.errors import Draining, LogUnavailable, OutcomeUnknown, QueueFull, SpillwayError
from actors.core.pacing import SECOND_NS, backoff_s
from actors.core.ports import Appended, Clock, Keyed, KeyedAnswer, WriteLog
from actors.core.position import NOTHING, accepted_s
from actors.core.rates import RateMeter, retry_after_s

_REOPEN_AT = 0.8  # of the bound: a buffer that was full takes new writes again only below this


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one buffer holds, and how long it tries."""

    max_writes: int
    max_bytes: int
    group_writes: int  # one log entry at most, unless a single call is larger
    group_bytes: int
    patience_s: float  # how long an append of unknown outcome is tried again


@dataclass(frozen=True, slots=True)
class Kept:
    """Durable. `first` is the index of the caller's first plain write inside the entry at `position`."""

    position: str
    first: int
    keyed: list[KeyedAnswer]


@dataclass(slots=True, eq=False)
class _Call:
    payload: bytes
    writes: int
    keyed: Sequence[Keyed]
    since_ns: int
    answer: asyncio.Future[Kept]

    @property
    def bytes(self) -> int:
        return len(self.payload) + sum(len(item.payload) for item in self.keyed)


class Inflow:
    """Group commit: whatever waits while one append is under way leaves with the next, and one fsync serves them all."""

    def __init__(
        self,
        log: WriteLog,
        backlog: Backlog,
        bounds: Bounds,
        clock: Clock,
        drained: RateMeter,
        arrived: Callable[[], None],
    ) -> None:
        """`drained` measures the outflow, for Retry-After; `arrived` is called when the backlog has grown."""
        self.accepted = RateMeter()
        self.draining = False
        self.last_error = ""
        self._log = log
        self._backlog = backlog
        self._bounds = bounds
        self._clock = clock
        self._drained = drained
        self._arrived = arrived
        self._calls: deque[_Call] = deque()
        self._waiting_writes = 0
        self._waiting_bytes = 0
        self._full = False
        self._called = asyncio.Event()
        self._log_up = asyncio.Event()
        self._log_turn = asyncio.Lock()  # appending and catching up: or entries would enter the backlog out of order

    @property
    def ready(self) -> bool:
        """Would a write be taken now?"""
        return self._log_up.is_set() and not self.draining and not self._is_full(0, 0)

    @property
    def log_up(self) -> bool:
        return self._log_up.is_set()

    async def load(self) -> None:
        """Read what the log still holds into the backlog. Raises `LogUnavailable`."""
        await self._catch_up()
        if self._backlog.last_position == NOTHING:
            self._backlog.last_position = await self._log.last_position()
        self._log_up.set()
        self._arrived()

    async def append(self, payload: bytes, writes: int, keyed: Sequence[Keyed] = ()) -> Kept:
        """Keep the frames in `payload` (their number is `writes`), and each new keyed request.

        Returns when they are on disk. Raises `QueueFull`, `Draining`, `LogUnavailable`: surely not kept;
        `OutcomeUnknown`: perhaps kept; `Fenced`: this buffer no longer owns its stream.
        """
        call = _Call(
            payload, writes + len(keyed), keyed, self._clock.now_ns(), asyncio.get_running_loop().create_future()
        )
        self._refuse_beyond_bounds(call)
        self._waiting_writes += call.writes
        self._waiting_bytes += call.bytes
        self._calls.append(call)
        self._called.set()
        try:
            return await call.answer
        finally:
            self._waiting_writes -= call.writes
            self._waiting_bytes -= call.bytes

    async def run(self) -> None:
        """Serve calls until cancelled; raises `Fenced` when another owner has taken over."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._serve())
            group.create_task(self._watch_log())

    def _refuse_beyond_bounds(self, call: _Call) -> None:
        if self.draining:
            raise Draining(retry_after_s=2.0)
        if not self._log_up.is_set():
            raise LogUnavailable(f"the log does not answer: {self.last_error or 'still reading it'}", 1.0)
        if self._is_full(call.writes, call.bytes):
            excess = (self._fill(call.writes, call.bytes) - _REOPEN_AT) * self._bounds.max_writes
            wait_s = retry_after_s(excess, self._drained.per_s(self._clock.now_ns()))
            raise QueueFull(f"{self._backlog.writes} writes ({self._backlog.bytes} bytes) wait for MongoDB", wait_s)

    def _is_full(self, writes: int, size: int) -> bool:
        """Full at the bound, and then until well below it: no flapping at the edge."""
        self._full = self._fill(writes, size) > (_REOPEN_AT if self._full else 1.0)
        return self._full

    def _fill(self, writes: int, size: int) -> float:
        """Share of the tighter bound that would be in use with `writes` and `size` bytes more."""
        held = self._backlog.writes + self._waiting_writes + writes
        held_bytes = self._backlog.bytes + self._waiting_bytes + size
        return max(held / self._bounds.max_writes, held_bytes / self._bounds.max_bytes)

    async def _serve(self) -> None:
        while True:
            await self._called.wait()
            self._called.clear()
            while self._calls:
                group = self._take_group()
                try:
                    await self._append_group(group)
                except SpillwayError as error:
                    for call in group:
                        _fail(call, error)
                    if not isinstance(error, LogUnavailable | OutcomeUnknown):
                        raise
                except BaseException:
                    for call in group:
                        _fail(call, OutcomeUnknown("the buffer stopped while the log was being written", 1.0))
                    raise

    def _take_group(self) -> list[_Call]:
        group = [self._calls.popleft()]
        writes, size = group[0].writes, group[0].bytes
        while self._calls:
            writes, size = writes + self._calls[0].writes, size + self._calls[0].bytes
            if writes > self._bounds.group_writes or size > self._bounds.group_bytes:
                break
            group.append(self._calls.popleft())
        return group

    async def _append_group(self, group: list[_Call]) -> None:
        payload = b"".join(call.payload for call in group)
        keyed = [item for call in group for item in call.keyed]
        deadline_ns = group[0].since_ns + int(self._bounds.patience_s * SECOND_NS)
        while True:
            await self._log_back(deadline_ns)
            try:
                async with self._log_turn:
                    appended = await self._log.append(payload, keyed)
                    self._note(appended, payload, keyed)
                break
            except LogUnavailable as error:
                self._lose_log(error)
                raise
            except OutcomeUnknown as error:
                self._lose_log(error)
                await self._log_back(deadline_ns, OutcomeUnknown(str(error), 1.0))
                found = self._find_entry(payload) if payload and not keyed else None
                if found:
                    appended = Appended(found, [])
                    break
        self._arrived()
        self._answer(group, appended)

    def _note(self, appended: Appended, payload: bytes, keyed: list[Keyed]) -> None:
        """Mirror in the backlog what the log has just kept, in the log's order."""
        before = self._backlog.writes
        if appended.position:
            self._add(appended.position, payload)
        for item, answer in zip(keyed, appended.keyed, strict=True):
            if answer.fresh:
                self._add(answer.position.rpartition("/")[2], item.payload)
        self.accepted.note(self._clock.now_ns(), self._backlog.writes - before)

    def _add(self, position: str, payload: bytes) -> None:
        self._backlog.add(Entry(position, decode_writes(payload), len(payload), accepted_s(position)))

    def _answer(self, group: list[_Call], appended: Appended) -> None:
        first = used = 0
        for call in group:
            plain = call.writes - len(call.keyed)
            answers = appended.keyed[used : used + len(call.keyed)]
            if not call.answer.done():
                call.answer.set_result(Kept(appended.position, first, answers))
            first += plain
            used += len(call.keyed)

    # The log going away and coming back

    def _lose_log(self, error: SpillwayError) -> None:
        self.last_error = str(error)
        self._log_up.clear()

    async def _log_back(self, deadline_ns: int, error: SpillwayError | None = None) -> None:
        """Wait until the log is there; at the deadline raise `error`, or that it is unavailable."""
        while not self._log_up.is_set():
            if self._clock.now_ns() >= deadline_ns:
                raise error or LogUnavailable(f"the log does not answer: {self.last_error}", 1.0)
            await self._clock.sleep(0.05)

    async def _watch_log(self) -> None:
        """Notice a dead log before a caller has to, and read what it holds beyond our knowledge when it is back."""
        attempt = 0
        while True:
            try:
                await self._log.ping()
                if not self._log_up.is_set():
                    await self._catch_up()
                    self.last_error = ""
                    self._log_up.set()
                    self._arrived()
                attempt = 0
            except LogUnavailable as error:
                attempt += 1
                self._lose_log(error)
            await self._clock.sleep(0.5 if attempt == 0 else backoff_s(attempt, most_s=0.5))

    async def _catch_up(self) -> None:
        async with self._log_turn:
            async for logged in self._log.replay(after=self._backlog.last_position):
                self._add(logged.position, logged.payload)

    def _find_entry(self, payload: bytes) -> str | None:
        """The newest entry, if it is this payload: then the append of unknown outcome had succeeded."""
        newest = self._backlog.newest
        if newest and newest.bytes == len(payload) and newest.writes == decode_writes(payload):
            return newest.position
        return None


def _fail(call: _Call, error: SpillwayError) -> None:
    if not call.answer.done():
        call.answer.set_exception(error)
        call.answer.exception()

"""Inflow: from a buffer's callers into the log. Nothing is answered before it is on disk."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from actors.appends import Bounds, Call, Kept
from actors.backlog import Backlog
from actors.core.arrivals import LaneCall
from actors.core.batching import Entry
from actors.core.document import MalformedPayload, Write, decode_writes
from actors.core.errors import (
    BufferUnavailable,
    Draining,
    Fenced,
    LogUnavailable,
    OutcomeUnknown,
    SpillwayError,
)
from actors.core.pacing import SECOND_NS, backoff_s
from actors.core.ports import Appended, Clock, Keyed, KeyedAnswer, Telemetry, WriteLog
from actors.core.position import NOTHING, accepted_s
from actors.core.rates import RateMeter
from actors.life import together
from actors.room import Room

_WATCH_S = 0.2


class Inflow:
    """Group commit: what waits while one append is under way leaves with the next, and one fsync serves them all."""

    def __init__(
        self,
        log: WriteLog,
        backlog: Backlog,
        bounds: Bounds,
        clock: Clock,
        telemetry: Telemetry,
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
        self._room = Room(bounds, backlog, drained)
        self._clock = clock
        self._telemetry = telemetry
        self._arrived = arrived
        self._calls: deque[Call] = deque()
        self._called = asyncio.Event()
        self._idle = asyncio.Event()  # no call waits
        self._idle.set()
        self._log_up = asyncio.Event()
        self._doubt: OutcomeUnknown | None = None  # part of the present group may be in the log already
        self._log_turn = asyncio.Lock()  # appending and catching up: or entries would enter the backlog out of order

    @property
    def ready(self) -> bool:
        """Would a write be taken now?"""
        return self._log_up.is_set() and not self.draining and not self._room.is_full()

    @property
    def log_up(self) -> bool:
        return self._log_up.is_set()

    async def load(self) -> None:
        """Read what the log still holds into the backlog. Raises `LogUnavailable`."""
        await self._catch_up()
        self.accepted = RateMeter()  # what lay there was accepted by the owner before
        if self._backlog.last_position == NOTHING:
            self._backlog.last_position = await self._log.last_position()
        self._log_up.set()
        self._arrived()

    async def append(self, sent: LaneCall, payload: bytes, writes: int, keyed: Sequence[Keyed] = ()) -> Kept:
        """Keep the frames in `payload`, unless `sent` is kept already, and each new keyed request; all of them together
        are `writes`.

        Returns when they are on disk. Raises `QueueFull`, `Draining`, `LogUnavailable`, `BufferUnavailable` (it stops),
        `MalformedPayload`: surely not kept; `OutcomeUnknown`: perhaps kept, also where its lane has given it up.
        """
        if not keyed and (place := self._log.place(sent)):
            if not place[0]:
                raise _given_up()
            return Kept(*place, [])
        try:
            self._refuse_what_cannot_be_kept(writes, len(payload) + sum(len(item.payload) for item in keyed))
        except SpillwayError as error:
            self._telemetry.count("refused_calls", reason=error.code)
            raise
        call = Call(
            sent,
            payload,
            decode_writes(payload),  # before it is kept: what the log holds must be readable, or no start gets past it
            keyed,
            [decode_writes(item.payload) for item in keyed],
            self._clock.now_ns(),
            asyncio.get_running_loop().create_future(),
        )
        if call.writes != writes or len(call.plain) != sent.writes:
            announced = f"{writes} writes are announced, {sent.writes} of them plain"
            raise MalformedPayload(f"{announced}; there are {call.writes} and {len(call.plain)}")
        self._calls.append(call)  # first: without memory for that, nothing would ever give its room back
        self._room.take(call)
        self._idle.clear()
        self._called.set()
        return await call.answer

    async def run(self) -> None:
        """Serve calls until cancelled; raises `Fenced` when another owner has taken over."""
        await together(self._serve(), self._watch_log())

    async def idle(self) -> None:
        """Returns when no call waits for its answer. Each waits for a bounded time."""
        await self._idle.wait()

    def _refuse_what_cannot_be_kept(self, writes: int, size: int) -> None:
        if self.draining:
            raise Draining(retry_after_s=2.0)
        if not self._log_up.is_set():
            raise LogUnavailable(f"nothing can be kept: {self.last_error or 'still reading the log'}", 1.0)
        if self._room.is_full(writes, size):
            raise self._room.refusal(writes, size, self._clock.now_ns())

    async def _serve(self) -> None:
        group: list[Call] = []
        try:
            while True:
                await self._called.wait()
                self._called.clear()
                while self._calls:
                    group = self._take_group()
                    try:
                        await self._append_group(group)
                    except (LogUnavailable, OutcomeUnknown) as error:
                        self._fail(group, error)
                    group = []
        except BaseException as error:
            self._log_up.clear()  # nobody serves calls any more
            gone = BufferUnavailable(f"the buffer has stopped: {error}", 1.0)
            perhaps_kept = OutcomeUnknown("the buffer stopped while the log was being written", 1.0)
            sure = isinstance(error, Fenced) and self._doubt is None  # a fenced append keeps nothing
            self._fail(group, gone if sure else perhaps_kept)
            self._fail(list(self._calls), gone)
            self._calls.clear()
            raise

    def _take_group(self) -> list[Call]:
        group = [self._calls.popleft()]
        writes, size = group[0].writes, group[0].bytes
        while self._calls:
            writes, size = writes + self._calls[0].writes, size + self._calls[0].bytes
            if writes > self._bounds.group_writes or size > self._bounds.group_bytes:
                break
            group.append(self._calls.popleft())
        return group

    async def _append_group(self, group: list[Call]) -> None:
        began_ns = self._clock.now_ns()
        keyed = [item for call in group for item in call.keyed]
        deadline_ns = group[0].since_ns + int(self._bounds.patience_s * SECOND_NS)
        self._doubt = None
        while True:
            await self._log_back(deadline_ns, self._doubt)
            try:
                async with self._log_turn:
                    answers = await self._append_new(group, keyed)
                break
            except LogUnavailable as error:
                self._lose_log(error)
                raise self._doubt or error from error
            except OutcomeUnknown as error:
                self._lose_log(error)
                await self._log_back(deadline_ns, error)  # in a new epoch: now it is kept and known, or never will be
                if keyed:  # of these only the log knows
                    self._doubt = error
        self._telemetry.observe("append_seconds", (self._clock.now_ns() - began_ns) / SECOND_NS)
        self._arrived()
        self._answer(group, answers)

    async def _append_new(self, group: list[Call], keyed: list[Keyed]) -> list[KeyedAnswer]:
        """Keep what is not kept yet. A call may be in the group twice, where this process hung."""
        new = list({call.sent: call for call in group if call.payload and not self._log.place(call.sent)}.values())
        if not new and not keyed:
            return []
        payload, sent = b"".join(call.payload for call in new), [call.sent for call in new]
        appended = await self._log.append(payload, keyed, sent)
        self._note(appended, new, group)
        return appended.keyed

    def _note(self, appended: Appended, new: list[Call], group: list[Call]) -> None:
        """Mirror in the backlog what the log has just kept, in the log's order: of `new` what is plain."""
        now_ns = self._clock.now_ns()
        if appended.position:
            plain = [write for call in new for write in call.plain]
            self._add(appended.position, plain, sum(len(call.payload) for call in new), now_ns)
        answers = iter(appended.keyed)
        for call in group:
            for item, writes in zip(call.keyed, call.keyed_writes, strict=True):
                answer = next(answers)
                if answer.fresh:
                    self._add(answer.position.rpartition("/")[2], writes, len(item.payload), now_ns)

    def _add(self, position: str, writes: list[Write], size: int, since_ns: int | None = None) -> None:
        """`since_ns`: when it was kept; None of what was found in the log, whose age only its position tells."""
        now_ns, wall_s = self._clock.now_ns(), self._clock.wall_s()
        at_s = accepted_s(position, wall_s)
        if since_ns is None:
            since_ns = now_ns - int((wall_s - at_s) * SECOND_NS)
        self._backlog.add(Entry(position, writes, size, at_s, since_ns))
        self.accepted.note(now_ns, len(writes))

    def _answer(self, group: list[Call], keyed: list[KeyedAnswer]) -> None:
        self._let_go(group)
        used = 0
        pause = self._room.pause_s(self._clock.now_ns())
        for call in group:
            answers = keyed[used : used + len(call.keyed)]
            if not call.answer.done():
                position, first = self._log.place(call.sent) or ("", 0)  # that is all under keys
                if call.payload and not position:
                    call.answer.set_exception(_given_up())
                    call.answer.exception()
                else:
                    call.answer.set_result(Kept(position, first, answers, pause))
            used += len(call.keyed)

    def _fail(self, group: list[Call], error: SpillwayError) -> None:
        for call in group:
            if not call.answer.done():
                call.answer.set_exception(error)
                call.answer.exception()
        self._let_go(group)

    def _let_go(self, group: list[Call]) -> None:
        self._room.give_back(group)
        if not self._room.waiting_writes and not self._calls:
            self._idle.set()

    # The log going away and coming back

    def _lose_log(self, error: SpillwayError) -> None:
        self.last_error = str(error)
        self._log_up.clear()

    async def _log_back(self, deadline_ns: int, error: SpillwayError | None = None) -> None:
        """Wait until the log is there; at the deadline raise `error`, or that it is unavailable."""
        while not self._log_up.is_set():
            if self._clock.now_ns() >= deadline_ns:
                raise error or LogUnavailable(f"nothing can be kept: {self.last_error}", 1.0)
            await self._clock.sleep(0.05)

    async def _watch_log(self) -> None:
        """Notice a dead log before a caller has to, and read what it holds beyond our knowledge when it is back."""
        attempt = 0
        while True:
            try:
                await self._log.ping()
                if not self._log_up.is_set():
                    await self._regain_log()
                attempt = 0
            except LogUnavailable as error:
                attempt += 1
                self._lose_log(error)
            await self._clock.sleep(_WATCH_S if attempt == 0 else backoff_s(attempt, most_s=0.5))

    async def _regain_log(self) -> None:
        """An append without an answer may still be on its way to the log: first make sure that it comes too late."""
        async with self._log_turn:
            await self._log.reopen()
            await self._catch_up()
        self.last_error = ""
        self._log_up.set()
        self._arrived()

    async def _catch_up(self) -> None:
        async for logged in self._log.replay(after=self._backlog.last_position):
            self._add(logged.position, logged.writes(self._log.stream), len(logged.payload))


def _given_up() -> OutcomeUnknown:
    """Nobody should hear it. Whoever does, of a lane that has two calls under way, is told nothing that is not so."""
    return OutcomeUnknown("its lane has asked for more since, and only its last call is known again", 1.0)

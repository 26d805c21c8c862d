"""Outflow: from a buffer's backlog to the writer, and out of the log once a Report has named every write."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from actors.backlog import Backlog
from actors.core.batching import BatchPolicy, Entry, Origin, Place, Plan, Round, plan
from actors.core.dead_letter import DeadLetter
from actors.core.document import Kind, encode_writes
from actors.core.errors import LogUnavailable, OutcomeUnknown, WriterUnavailable
from actors.core.outcome import Outcome
from actors.core.pacing import SECOND_NS, backoff_s
from actors.core.ports import BatchSink, Clock, Telemetry, WriteLog
from actors.core.position import NOTHING, order
from actors.core.rates import RateMeter
from actors.life import together

_REMEMBERED_REJECTIONS = 1_000

Drop = Callable[[list[tuple[str, str]]], Awaitable[None]]
Leaving = Callable[[list[Entry]], None]


class _Rejection(NamedTuple):
    reason: str
    attempts: int


class Outflow:
    """One batch in flight at a time: that is the back-pressure, and what keeps the order per key."""

    def __init__(
        self,
        log: WriteLog,
        backlog: Backlog,
        sink: BatchSink,
        policy: BatchPolicy,
        clock: Clock,
        telemetry: Telemetry,
        drained: RateMeter,
        rejected: RateMeter,
        drop: Drop,
        leaving: Leaving,
    ) -> None:
        """`drained` and `rejected` are one for all outflows of a buffer. `drop` forgets cached copies of keys; a write
        stays readable in the backlog until that has happened. `leaving` is told right before it is not any more."""
        self.resolved = NOTHING  # every entry up to here has been named by a Report
        self.rejections: OrderedDict[str, str] = OrderedDict()  # "position/offset" -> reason
        self.complete_since = NOTHING  # of entries after this one, `rejections` names every rejected write
        self._flush_error = ""
        self._log_error = ""
        self._log = log
        self._backlog = backlog
        self._sink = sink
        self._policy = policy
        self._clock = clock
        self._telemetry = telemetry
        self._drained = drained
        self._rejected = rejected
        self._drop = drop
        self._leaving = leaving
        self._changed = asyncio.Event()  # the backlog grew, or somebody began to wait
        self._oldest_ns: int | None = None  # since when the oldest write that is in no batch yet lingers
        self._waiting = 0
        self._news: asyncio.Future[None] | None = None
        self._done: list[Entry] = []  # resolved, and still in the log
        self._trim = asyncio.Event()
        self._trimming = asyncio.Lock()

    @property
    def last_error(self) -> str:
        """Why it waits for the log, or for MongoDB; empty when all is well."""
        return self._log_error or self._flush_error

    def wake(self) -> None:
        """The backlog may have grown."""
        if self._oldest_ns is None and self._backlog.oldest is not None:
            self._oldest_ns = self._clock.now_ns()
        self._changed.set()

    async def wait_for(self, position: str, timeout_s: float) -> str:
        """Wait until `position` is resolved or the time is up; returns how far everything is resolved.

        While anybody waits here, batches do not linger.
        """
        deadline_ns = self._clock.now_ns() + int(timeout_s * SECOND_NS)
        wanted = order(position)
        self._waiting += 1
        self._changed.set()
        timer = asyncio.create_task(self._clock.sleep(timeout_s))
        try:
            while order(self.resolved) < wanted and self._clock.now_ns() < deadline_ns:
                if self._news is None or self._news.done():
                    self._news = asyncio.get_running_loop().create_future()
                await asyncio.wait((self._news, timer), return_when=asyncio.FIRST_COMPLETED)
            return self.resolved
        finally:
            self._waiting -= 1
            timer.cancel()

    async def run(self) -> None:
        """Flush until cancelled. A fault of ours ends it, and so does `Fenced`: a newer owner has taken over."""
        await together(self._flush_always(), self._trim_always())

    async def _flush_always(self) -> None:
        while True:
            await self._batch_due()
            batch = self._backlog.batch(self._policy)
            more = sum(len(entry.writes) for entry in batch) < self._backlog.open_writes
            self._oldest_ns = self._clock.now_ns() if more else None
            await self.flush(batch)

    async def _batch_due(self) -> None:
        """Wait until a batch must leave: it is full, its oldest write has lingered enough, or somebody waits for it."""
        while True:
            self._changed.clear()
            if self._backlog.oldest is not None:
                now = self._clock.now_ns()
                self._oldest_ns = now if self._oldest_ns is None else self._oldest_ns
                age_s = (now - self._oldest_ns) / SECOND_NS
                writes, size = self._backlog.open_writes, self._backlog.open_bytes
                due_s = self._policy.due_in_s(writes, size, age_s, urgent=self._waiting > 0)
                if due_s <= 0:
                    return
                timer = asyncio.create_task(self._clock.sleep(due_s))
            else:
                timer = None
            change = asyncio.create_task(self._changed.wait())
            waits = {change} if timer is None else {change, timer}
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waits:
                    task.cancel()

    async def flush(self, entries: list[Entry]) -> None:
        """Pour `entries`, the oldest open ones, until a Report names each of their writes; then they are resolved."""
        rejected: dict[Place, _Rejection] = {}
        skip: set[Place] = set()
        while True:
            planned = plan(entries, skip, Origin(self._log.stream, self._log.epoch, self._log.owner))
            sent, fresh = await self._apply(planned)
            rejected |= fresh
            if not planned.is_lacking(fresh):
                break
            done = {place for round_ in sent for places in round_.places.values() for place in places}
            skip |= done | planned.covered_by(done - fresh.keys())
        if rejected:
            await self._bury(entries, rejected)
            await self._forget_buried(entries)
        self._resolve(entries, is_forgotten=bool(rejected))

    async def _apply(self, planned: Plan) -> tuple[list[Round], dict[Place, _Rejection]]:
        """The rounds up to the first in which one is rejected that had made others superfluous: they count again, and
        what follows builds on them. Returns those that were sent, and what in them was rejected."""
        sent: list[Round] = []
        rejected: dict[Place, _Rejection] = {}
        for round_ in planned.rounds:
            fresh = await self._apply_round(round_)
            sent.append(round_)
            rejected |= fresh
            if planned.is_lacking(fresh):
                break
        return sent, rejected

    async def _apply_round(self, round_: Round) -> dict[Place, _Rejection]:
        """Send the commands of a round until none needs another try; returns what was rejected, and why."""
        rejected: dict[Place, _Rejection] = {}
        groups = list(round_.commands)
        attempt, began_ns = 0, self._clock.now_ns()
        while groups:
            try:
                reports = await self._sink.write([round_.commands[group] for group in groups])
            except WriterUnavailable as error:
                self._flush_error = str(error)
            else:
                again = []
                for group, report in zip(groups, reports, strict=True):
                    places = round_.places[group]
                    if len(report.outcomes) != len(places):
                        raise RuntimeError(f"{len(places)} writes were sent and {len(report.outcomes)} reported")
                    if report.needs_retry:
                        again.append(group)
                        self._flush_error = report.retry_reason or self._flush_error
                    elif Outcome.REJECTED in report.outcomes:
                        for index, outcome in enumerate(report.outcomes):
                            if outcome == Outcome.REJECTED:
                                reason = report.reasons.get(index, "refused by MongoDB")
                                rejected[places[index]] = _Rejection(reason, attempt + 1)
                groups = again
            if groups:
                attempt += 1
                self._telemetry.count("flush_retries")
                await self._clock.sleep(backoff_s(attempt))
        self._telemetry.observe("flush_seconds", (self._clock.now_ns() - began_ns) / SECOND_NS)
        self._flush_error = ""
        return rejected

    async def _bury(self, entries: list[Entry], rejected: dict[Place, _Rejection]) -> None:
        letters = [
            DeadLetter(
                f"{self._log.stream}/{entries[place.entry].position}/{place.write}",
                encode_writes([entries[place.entry].writes[place.write]]),
                rejection.reason,
                rejection.attempts,
                first_s=entries[place.entry].accepted_s,
                last_s=self._clock.wall_s(),
            )
            for place, rejection in sorted(rejected.items())  # as accepted: a replay of all keeps the order per key
        ]
        await self._persist(lambda: self._log.dead_letter(letters))
        self._rejected.note(self._clock.now_ns(), len(letters))
        for letter in letters:
            self.rejections[letter.id.partition("/")[2]] = letter.reason
        while len(self.rejections) > _REMEMBERED_REJECTIONS:
            self.complete_since = self.rejections.popitem(last=False)[0].partition("/")[0]

    def _resolve(self, entries: list[Entry], *, is_forgotten: bool) -> None:
        writes = sum(len(entry.writes) for entry in entries)
        self._backlog.resolve(entries)
        if is_forgotten:
            self._let_go(entries)
        else:
            self._done += entries
            self._trim.set()
        self.resolved = entries[-1].position
        self._drained.note(self._clock.now_ns(), writes)
        self._telemetry.observe("flush_writes", writes)
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _trim_always(self) -> None:
        """Let the log forget what is resolved; beside the next flush, because nobody waits for it."""
        while True:
            await self._trim.wait()
            self._trim.clear()
            async with self._trimming:
                await self._forget_done()

    async def _forget_done(self) -> None:
        done, self._done = self._done, []
        if done:
            await self._let_log_forget(done)
            self._let_go(done)

    def _let_go(self, entries: list[Entry]) -> None:
        self._leaving(entries)
        self._backlog.forget(len(entries))

    async def _forget_buried(self, entries: list[Entry]) -> None:
        """Before anybody hears of a rejection. Else a crash would bring the write back, and MongoDB, in which the
        reason may be gone by then, would take what its caller was told it never will."""
        async with self._trimming:
            await self._forget_done()
            await self._let_log_forget(entries)

    async def _let_log_forget(self, entries: list[Entry]) -> None:
        """May be done twice. `entries` are its oldest."""
        changed = [write[1:3] for entry in entries for write in entry.writes if write.kind != Kind.INSERT]
        if changed:
            await self._persist(lambda: self._drop(changed))
        await self._persist(lambda: self._log.acknowledge(entries[-1].position))

    async def _persist(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do it, however long the log is away. Each of these acts may be done twice."""
        attempt = 0
        while True:
            try:
                await act()
            except (LogUnavailable, OutcomeUnknown) as error:
                attempt += 1
                self._log_error = str(error)
                await self._clock.sleep(backoff_s(attempt, most_s=0.5))
            else:
                self._log_error = ""
                return

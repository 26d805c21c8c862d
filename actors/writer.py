"""Writer: the one place from which commands leave for MongoDB.

It merges what the buffers hand over, spends the budget, and reports one outcome per write. It holds nothing that
could be lost: what it did not report is still in the buffers' log. It sends only during its tenure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from actors.budget import Budget
from actors.census import Census
from actors.core.batching import Command
from actors.core.doubts import Doubts
from actors.core.errors import (
    AnswerTooLarge,
    CommandFailed,
    CommandNotSent,
    CommandRefused,
    CommandTimedOut,
    CommandUnknown,
    DatabaseUnavailable,
    LogUnavailable,
    SpillwayError,
)
from actors.core.outcome import Report
from actors.core.pacing import backoff_s
from actors.core.ports import Clock, DocumentStore, Telemetry
from actors.life import Tasks, together
from actors.outbox import Load, Outbox
from actors.pulse import Pulse
from actors.reads import Reads
from actors.tally import Tally
from actors.tenure import Tenure

T = TypeVar("T")

_WATCH_S = 0.3


class Writer:
    """Satisfies `BatchSink`. Nothing is sent unless `run` is going, and never again once it has ended."""

    def __init__(
        self,
        store: DocumentStore,
        outbox: Outbox,
        budget: Budget,
        tenure: Tenure,
        clock: Clock,
        telemetry: Telemetry,
        *,
        lanes: int,
        counted: Sequence[str] = (),
    ) -> None:
        """`lanes`: commands under way at once. `counted`: collections whose size is known without asking each time."""
        self._store = store
        self._pulse = Pulse(store.probe, clock)
        self._outbox = outbox
        self._work = asyncio.Event()
        self._reads = Reads(store, self._work.set)
        self._budget = budget
        self._tenure = tenure
        self._may_send = lambda: tenure.holds
        self._clock = clock
        self._census = Census(counted)
        self._doubts = Doubts(budget.operation_s)
        self._reads_turn = True
        self._up = asyncio.Event()
        self._lost = asyncio.Event()
        self._lost.set()
        self._learned = False
        self._lanes = asyncio.Semaphore(lanes)
        self._tasks = Tasks()  # one per lane in use
        self._last_error = ""
        self._tally = Tally(clock, telemetry)

    async def write(self, commands: Sequence[Command]) -> list[Report]:
        """One report per command. Waits for the budget, and for MongoDB while it is away. Raises as `Outbox.add`."""
        answers = await self._outbox.add(commands)
        self._work.set()
        return [await asyncio.shield(answer) for answer in answers]  # a caller that goes takes nothing along

    async def find(self, namespace: str, ids: Sequence[str]) -> list[bytes | AnswerTooLarge | None]:
        """BSON documents in the order asked, None where there is none. See `Reads.find`."""
        self._refuse_reads_while_away()
        return await self._reads.find(namespace, ids)

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
        """Some documents with their ids, at most `limit`. Raises as `find`."""
        self._refuse_reads_while_away()
        return await self._reads.sample(namespace, limit)

    def stats(self) -> dict[str, Any]:
        """What an operator wants to know, as plain values."""
        return {
            "epoch": self._tenure.epoch,
            "mongodb": self._mongodb,
            "last_error": self._last_error or self._pulse.note or self._tenure.note,
            "held_s": round(self._budget.held_s, 3),
            "waiting_commands": len(self._outbox),
            "waiting_reads": len(self._reads),
            **self._tally.stats(),
            "documents": dict(self._census.known),
            "commands": self._budget.spent(),
        }

    async def run(self) -> None:
        """Take the lease, hold it, and send until cancelled. Raises `Fenced` when it is lost for good."""
        self._budget.quarantine(await self._tenure.begin())
        try:
            await together(
                self._tenure.hold(), self._dispatch(), self._recover_always(), self._watch(), self._tasks.fail()
            )
        finally:
            self._up.clear()
            self._reads.fail("the writer has stopped")

    async def close(self) -> None:
        """After `run` was cancelled: wait for what is under way, then give the lease back if nothing is in doubt."""
        await self._tasks.until_idle()
        try:
            if not self._budget.in_doubt:
                await self._tenure.end()
        except LogUnavailable as error:  # then it runs out by itself
            self._last_error = str(error)
        finally:
            await self._store.close()

    # Sending

    async def _dispatch(self) -> None:
        while True:
            self._work.clear()
            if not (len(self._outbox) or len(self._reads)):
                await self._work.wait()
            await self._up.wait()
            await self._lanes.acquire()
            await self._budget.take(self._may_send)
            send, cost = self._next() if self._up.is_set() else (None, 1)  # this late, so that more has come together
            if send is None:
                self._budget.unsent()
                self._lanes.release()
            else:
                await self._take_rest(cost - 1)
                self._tasks.begin(self._use_lane(send))

    async def _take_rest(self, cost: int) -> None:
        """What a large command costs beyond the first slot. MongoDB may go away meanwhile, and come back."""
        while cost:
            await self._budget.take(self._may_send, cost)
            if self._up.is_set():
                return
            self._budget.unsent(cost)
            await self._up.wait()

    def _next(self) -> tuple[Callable[[], Awaitable[None]] | None, int]:
        """What to send now, and its cost; reads and writes take turns, so that neither starves the other. A count goes
        when there is nothing else, in a lane like all others: nobody waits for it."""
        self._reads_turn = not self._reads_turn
        if len(self._outbox) and not (self._reads_turn and len(self._reads)):
            now, updates = self._clock.now_ns(), self._store.update_limit
            load = self._outbox.take(lambda command: self._doubts.most(command, now, updates))
            cost = self._budget.cost(load.command.size)
            return lambda: self._store_load(load, cost), cost
        ask = self._reads.next()
        if ask is None and self._census.is_due and not self._tasks.under_way:
            return lambda: self._census.take(self._count), 1
        return (None if ask is None else lambda: self._command(ask)), 1

    async def _use_lane(self, send: Callable[[], Awaitable[None]]) -> None:
        try:
            await send()
        except SpillwayError as error:  # whoever asked has been told; here it is only remembered
            self._last_error = str(error)
        finally:
            self._lanes.release()

    async def _store_load(self, load: Load, cost: int) -> None:
        began_ns = self._clock.now_ns()
        self._census.disturb(load.command.namespace)
        try:
            report = await self._command(lambda: self._store.store(load.command), cost)
        except CommandRefused as refusal:
            if len(load.command.ids) > 1:
                self._outbox.halve(load)
                self._work.set()
                return
            report = Report.rejected(str(refusal))
        except BaseException as error:
            load.answer_again(str(error) or type(error).__name__)
            if isinstance(error, CommandUnknown | CommandTimedOut):
                self._doubts.note(load.command, began_ns, self._clock.now_ns())
            if isinstance(error, CommandTimedOut):
                self._census.doubt(load.command.namespace)
            raise
        self._last_error = report.retry_reason or self._last_error
        self._tally.load(len(load.command.ids))
        self._census.grow(load.command.namespace, report.grown)
        load.answer(report)

    async def _command(self, send: Callable[[], Awaitable[T]], cost: int = 1) -> T:
        """Exactly one command, for which a permit was taken; the permit is given back by what became of it."""
        began_ns, outcome = self._clock.now_ns(), "unknown"
        try:
            result = await send()
            outcome = "done"
        except CommandNotSent as error:
            outcome = "unsent"
            self._budget.unsent(cost)
            self._lose(str(error))
            raise
        except (CommandRefused, CommandFailed) as error:
            outcome = "refused" if isinstance(error, CommandRefused) else "failed"
            self._budget.complete(cost)
            raise
        except BaseException as error:  # also a cancellation, or a fault of ours: it may have left
            self._budget.unknown(cost)
            self._lose(str(error) or type(error).__name__)
            raise
        finally:
            self._tally.command(began_ns, outcome)
        self._budget.complete(cost)
        if self._up.is_set():  # one that was under way when MongoDB was lost does not bring it back
            self._last_error = ""
        return result

    # Coming back

    def _lose(self, reason: str) -> None:
        """MongoDB is away. Writes wait; reads are told at once."""
        self._last_error = reason
        self._up.clear()
        self._reads.fail(reason)
        self._lost.set()

    async def _watch(self) -> None:
        """Notice soon that MongoDB is away, also when nobody writes or what is under way is just not answered."""
        while True:
            await self._clock.sleep(_WATCH_S)
            self._tally.report(self._budget.gauge, self._tenure.epoch, self._mongodb)
            if self._up.is_set():
                if self._census.is_due:
                    self._work.set()  # in case nothing is under way any more
                try:
                    await self._pulse.ask()
                except CommandNotSent as error:
                    self._lose(str(error))

    async def _recover_always(self) -> None:
        """Whenever MongoDB is away: until it answers and what has to be known of it is known."""
        attempt = 0
        while True:
            await self._lost.wait()
            await self._tasks.until_idle()  # what is still under way may become one more doubt
            try:
                await self._store.probe()
                await self._learn()
            except (CommandNotSent, CommandUnknown, CommandFailed, CommandRefused) as error:
                attempt += 1
                self._last_error = str(error)
                await self._clock.sleep(backoff_s(attempt, most_s=1.0))
            else:
                self._lost.clear()
                self._up.set()
                self._last_error, attempt = "", 0

    async def _learn(self) -> None:
        """Kind of server; again after every doubt, which may have changed it, and the sizes of the collections."""
        self._learned = self._learned and not self._budget.has_unknown
        self._budget.settle()
        self._census.renew(everything=not self._learned)
        if not self._learned:
            await self._budget.take(self._may_send)
            await self._command(self._store.describe)
            self._learned = True
        while self._census.is_due:
            await self._budget.take(self._may_send)
            await self._census.take(self._count)

    async def _count(self, namespace: str) -> int:
        return await self._command(partial(self._store.count, namespace))

    @property
    def _mongodb(self) -> str:
        return self._pulse.mongodb(is_up=self._up.is_set(), last_error=self._last_error)

    def _refuse_reads_while_away(self) -> None:
        if not self._up.is_set() or not self._tenure.holds:
            why = self._last_error or self._pulse.note or self._tenure.note or "the writer is starting"
            raise DatabaseUnavailable(f"MongoDB does not answer: {why}", 1.0)

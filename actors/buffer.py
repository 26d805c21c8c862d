"""Buffer: owns one stream. It accepts, logs, batches, flushes, acknowledges; and reads what is still on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from actors.appends import Bounds, Kept
from actors.backlog import Backlog
from actors.core.arrivals import LaneCall
from actors.core.batching import BatchPolicy
from actors.core.document import Key
from actors.core.errors import LogUnavailable, SpillwayError
from actors.core.intake import Found, State
from actors.core.pacing import SECOND_NS
from actors.core.ports import BatchSink, Cache, Clock, DeadLetters, Keyed, Resolved, Telemetry, WriteLog
from actors.core.position import order
from actors.core.rates import RateMeter
from actors.heritage import Heritage
from actors.inflow import Inflow
from actors.life import together
from actors.lookup import Lookup
from actors.outflow import Outflow

_REPORT_S = 1.0


class Buffer:
    """One stream's owner. `open` first, then `run` for as long as it lives; a `run` that ends must end the process."""

    def __init__(
        self,
        log: WriteLog,
        sink: BatchSink,
        cache: Cache,
        dead_letters: DeadLetters,
        clock: Clock,
        telemetry: Telemetry,
        policy: BatchPolicy,
        bounds: Bounds,
        *,
        inherited: Sequence[WriteLog] = (),
        predecessors_empty: Callable[[], Awaitable[bool]] | None = None,
        owns: Callable[[Key], bool] = lambda key: True,
    ) -> None:
        """`inherited`: streams of an earlier pool size that fall to this buffer. Nothing of its own stream is flushed,
        and no reader is told what MongoDB has, until `predecessors_empty`: a key may have moved here, and what is older
        must reach MongoDB first."""
        self._log = log
        self._dead_letters = dead_letters
        self._clock = clock
        self._predecessors_empty = predecessors_empty
        self._backlog = Backlog()
        self._drained, self._rejected = RateMeter(), RateMeter()
        older_poured = predecessors_empty is None and not inherited
        self._lookup = Lookup(self._backlog, sink, cache, older_poured=older_poured)

        def outflow(log: WriteLog, backlog: Backlog) -> Outflow:
            meters, drop, leaving = (self._drained, self._rejected), self._lookup.drop, self._lookup.leaving
            return Outflow(log, backlog, sink, policy, clock, telemetry, *meters, drop, leaving)

        self._outflow = outflow(log, self._backlog)
        self._heritage = Heritage(inherited, outflow, clock)
        self._inflow = Inflow(log, self._backlog, bounds, clock, telemetry, self._drained, self._outflow.wake)
        self._telemetry = telemetry
        self._owns = owns

    async def open(self) -> None:
        """Become the owner of the stream and load what it holds. Raises `UnsafeLog`, `LogUnavailable`."""
        await self._log.open()
        await self._inflow.load()
        # whatever the log no longer holds has been named by a Report to the owner before
        self._outflow.resolved = self._outflow.complete_since = self._backlog.before_first
        if self._predecessors_empty is not None and await self._predecessors_empty():  # nearly always: no reader waits
            self._lookup.older_are_poured()

    async def run(self) -> None:
        """Everything a buffer does; until cancelled. Raises `Fenced` when a newer owner has taken over."""
        await together(self._inflow.run(), self._pour(), self._report())

    async def append(self, sent: LaneCall, payload: bytes, writes: int, keyed: Sequence[Keyed] = ()) -> Kept:
        """See `Inflow.append`: returns when all of it is on disk."""
        return await self._inflow.append(sent, payload, writes, keyed)

    async def wait_for(self, position: str, timeout_s: float) -> Resolved:
        """Wait until `position` is resolved or the time is up."""
        resolved = await self._outflow.wait_for(position, timeout_s)
        return Resolved(resolved, self._outflow.complete_since, dict(self._outflow.rejections))

    async def states(self, stream: str, places: Sequence[str]) -> list[State | SpillwayError]:
        """What became of the writes at these places, each "position/offset"; of one that cannot be told just now why.

        It costs no storage: a stream is forgotten from the front only, so what lies before its oldest entry is done.
        """
        try:
            first, last = await self._extent(stream)
        except LogUnavailable as error:
            return [error] * len(places)
        states: list[State | SpillwayError] = []
        trouble: SpillwayError | None = None  # the shelf does not answer: it is asked once, and not for each in turn
        for place in places:
            at = order(place.partition("/")[0])
            if last is None or at > order(last):
                states.append(State("unknown"))
            elif first is not None and at >= order(first):
                states.append(State("logged"))
            elif trouble is not None:
                states.append(trouble)
            else:
                try:
                    letter = await self._dead_letters.get(f"{stream}/{place}")
                    states.append(State("dead-lettered", letter.reason) if letter else State("stored"))
                except SpillwayError as error:
                    trouble = error
                    states.append(error)
        return states

    async def _extent(self, stream: str) -> tuple[str | None, str | None]:
        """The oldest position that a stream still holds, and the last it ever held; None: there is none. Raises
        `LogUnavailable`."""
        if stream == self._log.stream:
            oldest = self._backlog.oldest
            return oldest.position if oldest else None, self._backlog.last_position
        inherited = self._heritage.of(stream)
        if inherited is None:
            return None, None
        last = await inherited.last_position()
        async for logged in inherited.replay():
            return logged.position, last
        return None, last

    async def read_near(self, namespace: str, ids: Sequence[str]) -> list[Found | SpillwayError | None]:
        """See `Lookup.near`: it never waits for MongoDB."""
        return await self._lookup.near(namespace, ids)

    async def read(self, namespace: str, ids: Sequence[str]) -> list[Found | SpillwayError]:
        """Documents as every write accepted so far makes them; of each that cannot be told just now the reason."""
        return await self._lookup.read(namespace, ids)

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
        """Documents of this buffer's that MongoDB holds, at most `limit`, with their ids; they are cached afterwards.

        Raises `DatabaseUnavailable`, `WriterUnavailable`.
        """
        return await self._lookup.sample(namespace, limit, self._owns)

    async def drain(self, timeout_s: float) -> int:
        """Refuse new writes and pour what is there; returns how many are left when it is empty or the time is up.

        Raises `LogUnavailable` when what an earlier pool left has not even been counted by then.
        """
        self._inflow.draining = True
        deadline_ns = self._clock.now_ns() + int(timeout_s * SECOND_NS)
        await self._inflow.idle()  # calls that were let in may still enter the backlog
        if not self._heritage.emptied.is_set():
            await self._until_heritage_is_poured(self._seconds_until(deadline_ns))
        if self._backlog.oldest is not None:
            await self._outflow.wait_for(self._backlog.last_position, self._seconds_until(deadline_ns))
        inherited = self._heritage.left
        if inherited is None:
            why = self._heritage.last_error or "it is still read"
            raise LogUnavailable(f"what an earlier pool left is not counted yet: {why}", 1.0)
        return self._backlog.open_writes + inherited.writes

    def _seconds_until(self, deadline_ns: int) -> float:
        return max(0.0, (deadline_ns - self._clock.now_ns()) / SECOND_NS)

    async def _until_heritage_is_poured(self, timeout_s: float) -> None:
        waits = {
            asyncio.create_task(self._heritage.emptied.wait()),
            asyncio.create_task(self._clock.sleep(timeout_s)),
        }
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()

    async def pour_heritage(self) -> None:
        """Pour the inherited streams and nothing else. Raises what ends an outflow, and `LogUnavailable`."""
        await self._heritage.pour(is_patient=False)

    def stats(self) -> dict[str, Any]:
        """What an operator wants to know, as plain values. `writes`, `bytes` and `lag_s` are those of inherited streams
        too, and None until these have been counted."""
        now = self._clock.now_ns()
        inherited = self._heritage.left
        per_s = self._drained.per_s(now)
        return {
            "stream": self._log.stream,
            "epoch": self._log.epoch,
            "ready": self._inflow.ready,
            "log_up": self._inflow.log_up,
            "draining": self._inflow.draining,
            "writes": self._backlog.open_writes + inherited.writes if inherited else None,
            "bytes": self._backlog.open_bytes + inherited.bytes if inherited else None,
            "lag_s": self._lag_s(inherited.oldest_s) if inherited else None,
            "accepted_total": self._inflow.accepted.total,
            "accepted_per_s": self._inflow.accepted.per_s(now),
            "drained_total": self._drained.total,
            "drained_per_s": per_s,
            "dead_lettered_total": self._rejected.total,
            "last_error": self._inflow.last_error or self._heritage.last_error or self._outflow.last_error,
        }

    def _lag_s(self, inherited_s: float | None) -> float:
        """Of our own stream no step of a clock changes it, nor does a clock of Redis' that is not ours."""
        own, lags_s = self._backlog.oldest, [0.0]
        if own is not None:
            lags_s.append((self._clock.now_ns() - own.since_ns) / SECOND_NS)
        if inherited_s is not None:
            lags_s.append(self._clock.wall_s() - inherited_s)
        return round(max(lags_s), 3)

    async def _report(self) -> None:
        """Every second, whatever the load: a number per write would cost more than the write."""
        accepted = drained = refused = 0
        while True:
            stats = self.stats()
            if stats["writes"] is not None:
                self._telemetry.gauge("backlog_writes", stats["writes"])
                self._telemetry.gauge("backlog_bytes", stats["bytes"])
                self._telemetry.gauge("lag_seconds", stats["lag_s"])
            self._telemetry.gauge("redis_up", float(stats["log_up"]))
            self._telemetry.count("accepted_writes", stats["accepted_total"] - accepted)
            self._telemetry.count("drained_writes", stats["drained_total"] - drained)
            self._telemetry.count("dead_lettered_writes", stats["dead_lettered_total"] - refused)
            accepted, drained = stats["accepted_total"], stats["drained_total"]
            refused = stats["dead_lettered_total"]
            await self._clock.sleep(_REPORT_S)

    # Pouring

    async def _pour(self) -> None:
        await self._heritage.pour()
        while self._predecessors_empty is not None and not await self._predecessors_empty():
            await self._clock.sleep(0.2)
        self._lookup.older_are_poured()
        await self._outflow.run()

"""Buffer: owns one stream. It accepts, logs, batches, flushes, acknowledges; and reads back what is still on its way."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from actors.backlog import Backlog
from actors.core.batching import BatchPolicy, Entry
from actors.core.document import Key, Kind, decode_writes
from actors.core.ports import BatchSink, Cache, Clock, DeadLetters, Found, Keyed, Resolved, State, Telemetry, WriteLog
from actors.core.position import accepted_s, order
from actors.core.rates import RateMeter
from actors.inflow import Bounds, Inflow, Kept
from actors.outflow import Outflow

_READ_TRIES = 3
_REPLAY_PAGE = 200  # entries of an inherited stream held in memory at once


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
        cache_max_entries: int = 20_000,
    ) -> None:
        """`inherited`: streams of an earlier pool size that fall to this buffer. Nothing of its own stream is flushed
        until `predecessors_empty`: a key may have moved here, and what is older must reach MongoDB first."""
        self._log = log
        self._sink = sink
        self._cache = cache
        self._dead_letters = dead_letters
        self._clock = clock
        self._inherited = list(inherited)
        self._predecessors_empty = predecessors_empty
        self._backlog = Backlog()
        self._drained = RateMeter()
        self._outflow = Outflow(log, self._backlog, sink, policy, clock, telemetry, self._drained, self._drop)
        self._inflow = Inflow(log, self._backlog, bounds, clock, self._drained, self._outflow.wake)
        self._telemetry = telemetry
        self._policy = policy
        self._epoch = 0
        self._cached: OrderedDict[str, None] = OrderedDict()  # what we put into the shared cache: its bound
        self._cache_max_entries = cache_max_entries
        self._drops = 0  # number of drops begun: a document read before one must not be cached after it
        self._cache_turn = asyncio.Lock()

    async def open(self) -> None:
        """Become the owner of the stream and load what it holds. Raises `UnsafeLog`, `LogUnavailable`."""
        self._epoch = await self._log.open()
        await self._inflow.load()
        self._outflow.complete_since = self._backlog.before_first

    async def run(self) -> None:
        """Everything a buffer does; until cancelled. Raises (in a group) `Fenced` when a newer owner has taken over."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._inflow.run())
            group.create_task(self._pour())

    async def append(self, payload: bytes, writes: int, keyed: Sequence[Keyed] = ()) -> Kept:
        """See `Inflow.append`: returns when all of it is on disk."""
        return await self._inflow.append(payload, writes, keyed)

    async def wait_for(self, position: str, timeout_s: float) -> Resolved:
        """Wait until `position` is resolved or the time is up."""
        resolved = await self._outflow.wait_for(position, timeout_s)
        return Resolved(resolved, self._outflow.complete_since, dict(self._outflow.rejections))

    async def state(self, stream: str, position: str, offset: int) -> State:
        """What became of the write at this place. Raises `LogUnavailable`.

        It costs no storage: a stream is forgotten from the front only, so what lies before its oldest entry is done.
        """
        if stream == self._log.stream:
            oldest, last = self._backlog.oldest, self._backlog.last_position
            first = oldest.position if oldest else None
        else:
            heirs = [log for log in self._inherited if log.stream == stream]
            if not heirs:
                return State("unknown")
            first, last = None, await heirs[0].last_position()
            async for logged in heirs[0].replay():
                first = logged.position
                break
        if order(position) > order(last):
            return State("unknown")
        if first is not None and order(position) >= order(first):
            return State("logged")
        letter = await self._dead_letters.get(f"{stream}/{position}/{offset}")
        return State("dead-lettered", letter.reason) if letter else State("stored")

    async def read(self, namespace: str, ids: Sequence[str]) -> list[Found]:
        """Documents as every write accepted so far makes them. Raises `DatabaseUnavailable`, `WriterUnavailable`."""
        for _ in range(_READ_TRIES):
            drops = self._drops
            found = await self._read_once(namespace, ids)
            if drops == self._drops:
                break  # else a write left the backlog meanwhile: the base may be from before it, and its patch gone
        return [found[id_] for id_ in ids]

    async def _read_once(self, namespace: str, ids: Sequence[str]) -> dict[str, Found]:
        found: dict[str, Found] = {}
        wanted: list[str] = []
        for id_ in dict.fromkeys(ids):
            overlay = self._overlay(Key(namespace, id_))
            if overlay is not None:
                found[id_] = overlay
            else:
                wanted.append(id_)
        for id_, (document, source) in (await self._fetch(namespace, wanted)).items():
            patches = [write.body for write in self._backlog.pending(Key(namespace, id_)) if write.kind == Kind.PATCH]
            found[id_] = Found(document, patches, source)
        return found

    def drain_intake(self) -> None:
        """Take no new writes from now on."""
        self._inflow.draining = True

    async def drain(self, timeout_s: float) -> int:
        """Refuse new writes and pour what is there; returns how many writes are left when it is empty or the time is up."""
        self.drain_intake()
        if self._backlog.oldest is not None:
            await self._outflow.wait_for(self._backlog.last_position, timeout_s)
        return self._backlog.open_writes

    def stats(self) -> dict[str, Any]:
        """What an operator wants to know, as plain values."""
        now = self._clock.now_ns()
        oldest = self._backlog.oldest
        per_s = self._drained.per_s(now)
        return {
            "stream": self._log.stream,
            "epoch": self._epoch,
            "ready": self._inflow.ready,
            "log_up": self._inflow.log_up,
            "draining": self._inflow.draining,
            "writes": self._backlog.open_writes,
            "bytes": self._backlog.open_bytes,
            "lag_s": round(max(0.0, self._clock.wall_s() - oldest.accepted_s), 3) if oldest else 0.0,
            "accepted_total": self._inflow.accepted.total,
            "accepted_per_s": self._inflow.accepted.per_s(now),
            "drained_total": self._drained.total,
            "drained_per_s": per_s,
            "dead_lettered_total": self._outflow.rejected_total,
            "last_error": self._inflow.last_error or self._outflow.last_error,
        }

    # Pouring

    async def _pour(self) -> None:
        for log in self._inherited:
            await self._empty(log)
        while self._predecessors_empty is not None and not await self._predecessors_empty():
            await self._clock.sleep(0.2)
        await self._outflow.run()

    async def _empty(self, log: WriteLog) -> None:
        """Pour an inherited stream to its end. Its owner is gone, so nothing is added to it any more."""
        while page := await _page(log):
            backlog = Backlog()
            outflow = Outflow(
                log, backlog, self._sink, self._policy, self._clock, self._telemetry, self._drained, self._drop
            )
            for entry in page:
                backlog.add(entry)
            trimming = asyncio.create_task(outflow.run())
            try:
                await outflow.wait_for(page[-1].position, float(1 << 31))
                while len(backlog):
                    await self._clock.sleep(0.01)
            finally:
                trimming.cancel()

    # Reading

    def _overlay(self, key: Key) -> Found | None:
        """The document as the backlog alone tells it; None when older tiers have to be asked for a base."""
        writes = self._backlog.pending(key)
        for at in range(len(writes) - 1, -1, -1):
            if writes[at].kind != Kind.PATCH:
                base = None if writes[at].kind == Kind.DELETE else writes[at].body
                return Found(base, [write.body for write in writes[at + 1 :]], "buffer")
        return None

    async def _fetch(self, namespace: str, ids: list[str]) -> dict[str, tuple[bytes | None, str]]:
        if not ids:
            return {}
        drops = self._drops
        cached = await self._cache.get([_cache_key(namespace, id_) for id_ in ids])
        result: dict[str, tuple[bytes | None, str]] = {
            id_: (document, "cache") for id_, document in zip(ids, cached, strict=True) if document is not None
        }
        missing = [id_ for id_ in ids if id_ not in result]
        if missing:
            documents = await self._sink.find(namespace, missing)
            result.update({id_: (document, "mongodb") for id_, document in zip(missing, documents, strict=True)})
            await self.remember(
                namespace, {i: d for i, d in zip(missing, documents, strict=True) if d is not None}, drops
            )
        return result

    async def remember(self, namespace: str, documents: dict[str, bytes], drops: int | None = None) -> None:
        """Put what was read from MongoDB into the shared cache, unless a write to it has come between (`drops`)."""
        async with self._cache_turn:
            if drops is not None and drops != self._drops:
                return
            fresh = {
                _cache_key(namespace, id_): document
                for id_, document in documents.items()
                if not self._backlog.pending(Key(namespace, id_))
            }
            self._cached.update(dict.fromkeys(fresh))
            surplus = [self._cached.popitem(last=False)[0] for _ in range(len(self._cached) - self._cache_max_entries)]
            await self._cache.put(fresh)
            if surplus:
                await self._cache.drop(surplus)

    async def _drop(self, keys: list[tuple[str, str]]) -> None:
        self._drops += 1
        async with self._cache_turn:
            await self._cache.drop([_cache_key(*key) for key in keys])


def _cache_key(namespace: str, id_: str) -> str:
    return f"{namespace}/{id_}"


async def _page(log: WriteLog) -> list[Entry]:
    page: list[Entry] = []
    async for logged in log.replay():
        page.append(
            Entry(logged.position, decode_writes(logged.payload), len(logged.payload), accepted_s(logged.position))
        )
        if len(page) == _REPLAY_PAGE:
            break
    return page

"""An intake in memory that records what it was asked and fails on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from actors.adapters.memory import MemoryDeadLetters
from actors.core.dead_letter import DeadLetter, Page, Selection
from actors.core.document import Kind, Write
from actors.core.errors import IdempotencyConflict, SpillwayError
from actors.core.intake import Found, State
from actors.core.receipt import Receipt

UP: dict[str, Any] = {
    "ready": True, "accepted_total": 10, "accepted_per_s": 1.5, "drained_per_s": 2.5,
    "backlog": {"writes": 3, "bytes": 900},
    "lag_s": 0.2, "drain_eta_s": None, "commands": {"last_second": 7, "worst_window": 100, "limit": 100},
    "batch": {"mean_writes": 12.5}, "mongodb": "up", "redis": "up", "writer": {"epoch": 3},
    "buffers": [{"stream": "0"}],
    "documents": {"assessmentdb.records": 42},
}  # fmt: skip


class FakeIntake:
    """`failing` is raised by every question; `held` makes appends wait until it is set, `held_waits` waits."""

    def __init__(self) -> None:
        self.appends: list[list[Write]] = []
        self.waits: list[float] = []
        self.reads: list[tuple[str, list[str]]] = []
        self.status_calls = 0
        self.samples = 0
        self.failing: Exception | None = None
        self.failing_reads: Exception | None = None
        self.failing_waits: Exception | None = None
        self.begun = 0  # appends
        self.held: asyncio.Event | None = None
        self.held_waits: asyncio.Event | None = None
        self.final = State("stored")
        self.known: dict[str, tuple[str, str]] = {}  # fingerprint and position
        self.documents: dict[tuple[str, str], Found] = {}
        self.sampled: list[tuple[str, bytes]] = []
        self.failing_append: Exception | None = None
        self.failing_forget: Exception | None = None
        self.shelf = MemoryDeadLetters()
        self.up = UP

    def _check(self) -> None:
        if self.failing is not None:
            raise self.failing

    @property
    def writes(self) -> list[Write]:
        return [write for writes in self.appends for write in writes]

    async def append(self, writes: Sequence[Write]) -> list[Receipt]:
        self.begun += 1
        if self.held is not None:
            await self.held.wait()
        if self.failing_append is not None:
            raise self.failing_append
        self._check()
        self.appends.append(list(writes))
        for write in writes:
            key = (write.namespace, write.id)
            if write.kind in (Kind.INSERT, Kind.PUT):
                self.documents[key] = Found(write.body, [], "buffer")
            elif write.kind == Kind.DELETE:
                self.documents[key] = Found(None, [], "buffer")
            else:
                before = self.documents.get(key, Found(None, [], "mongodb"))
                self.documents[key] = Found(before.base, [*before.patches, write.body], before.source)
        return _receipts(f"{len(self.appends)}-0", writes)

    async def append_once(self, key: str, fingerprint: str, writes: Sequence[Write]) -> tuple[list[Receipt], bool]:
        self._check()
        if key in self.known:
            first, position = self.known[key]
            if first != fingerprint:
                raise IdempotencyConflict
            return _receipts(position, writes), False  # of these writes, as the real one makes them
        receipts = await self.append(writes)
        self.known[key] = (fingerprint, receipts[0].position)
        return receipts, True

    async def wait(self, receipts: Sequence[Receipt], timeout_s: float) -> list[State]:
        self.waits.append(timeout_s)
        if self.held_waits is not None:
            await self.held_waits.wait()
        if self.failing_waits is not None:
            raise self.failing_waits
        return [self.final] * len(receipts)

    async def state(self, receipt: Receipt) -> State:
        self._check()
        return self.final if receipt.stream == "0" else State("unknown")

    async def read(self, namespace: str, ids: Sequence[str]) -> list[Found | SpillwayError]:
        failing = self.failing_reads or self.failing
        if isinstance(failing, SpillwayError):
            return [failing] * len(ids)
        if failing is not None:
            raise failing
        self.reads.append((namespace, list(ids)))
        return [self.documents.get((namespace, id_), Found(None, [], "mongodb")) for id_ in ids]

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
        self.samples += 1
        self._check()
        return self.sampled[:limit]

    async def status(self) -> dict[str, Any]:
        self.status_calls += 1
        return self.up

    async def dead_letters(self, selection: Selection, limit: int, after: str) -> Page:
        self._check()
        return await self.shelf.list(selection, limit, after)

    async def dead_letter(self, id: str) -> DeadLetter | None:
        self._check()
        return await self.shelf.get(id)

    async def forget_dead_letters(self, ids: Sequence[str]) -> int:
        if self.failing_forget is not None:
            raise self.failing_forget
        self._check()
        return await self.shelf.remove(ids)


def _receipts(position: str, writes: Sequence[Write]) -> list[Receipt]:
    return [Receipt("0", position, i, write.namespace, write.id) for i, write in enumerate(writes)]

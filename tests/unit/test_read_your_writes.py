"""Reads in the midst of writes, flushes and late answers: none is older than what was acknowledged before it began."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import bson
from composed import NAMESPACE, Service, delete, end, insert, patch, put
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.adapters.clock import ManualClock
from actors.adapters.memory import MemoryStore
from actors.core.document import Kind, Write, decode_writes
from actors.core.errors import SpillwayError
from serve_app.patches import steps

ID = "a"  # the only one: what goes wrong, goes wrong within one document
WRITES = ["insert", "put", "patch", "patch", "patch", "delete"]
READS = ["read", "read", "read", "read near", "sample"]
EVENTS = ["time passes", "time passes", "answers are late", "late answers arrive", "the buffer dies"]

Document = dict[str, Any] | None


class LateStore(MemoryStore):
    """What it has found, or sampled, may stay under way for as long as the test says."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.punctual = asyncio.Event()
        self.punctual.set()

    async def find(self, namespace: str, ids: Sequence[str]) -> dict[str, bytes | None]:
        return await self._arriving(await super().find(namespace, ids))

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
        return await self._arriving(await super().sample(namespace, limit))

    async def _arriving(self, answer: Any) -> Any:
        await self.punctual.wait()
        return answer


class Story:
    """Each write leaves a number, so a document tells which writes made it. An insert has an id of its own: where it
    comes again, nobody else has written to that."""

    def __init__(self) -> None:
        self.service = Service()
        self.service.store = self.store = LateStore(self.service.clock)
        self.service.new_writer()
        self.number = 0
        self.reads: list[tuple[asyncio.Task[Any], int]] = []  # and how many writes it must see

    async def tell(self, events: list[str]) -> None:
        await self.service.start()
        try:
            for event in [*events, "late answers arrive", "time passes"]:
                await self.happens(event)
                self.judge()
            assert not self.reads, "a reader was never answered"
        finally:
            await end(*(task for task, _ in self.reads))
            await self.service.stop()

    async def happens(self, event: str) -> None:
        buffer = self.service.buffer
        match event:
            case "insert" | "put" | "patch" | "delete":
                await self.service.keep(self.write(event))
            case "read":
                await self.begin(buffer.read(NAMESPACE, [ID]))
            case "read near":
                await self.begin(buffer.read_near(NAMESPACE, [ID]))
            case "sample":
                self.service.tasks.add(asyncio.create_task(buffer.sample(NAMESPACE, 10)))
            case "time passes":
                await self.service.clock.advance(0.3)
            case "answers are late":
                self.store.punctual.clear()
            case "late answers arrive":
                self.store.punctual.set()
            case "the buffer dies":
                await end(*(task for task, _ in self.reads))
                self.reads.clear()
                await self.service.restart_buffer()
        await self.service.clock.advance(0.0)

    def write(self, kind: str) -> Write:
        self.number += 1
        number = {f"n{self.number}": 1}
        if kind == "insert" and all(state == {"_id": ID, "n0": 1} for state in self.states()[1:]):
            return insert(ID, n0=1)
        return patch(ID, **number) if kind == "patch" else delete(ID) if kind == "delete" else put(ID, **number)

    async def begin(self, read: Coroutine[Any, Any, Any]) -> None:
        self.reads.append((asyncio.create_task(read), len(self.states()) - 1))

    def judge(self) -> None:
        for reading in [reading for reading in self.reads if reading[0].done()]:
            self.reads.remove(reading)
            task, acknowledged = reading
            (found,) = task.result()
            assert not isinstance(found, SpillwayError), found
            if found is not None:  # nothing nearer than MongoDB knows it
                *_, document = steps(found.base, found.patches, ID)
                seen = document if found.base or found.patches else None
                assert seen in self.states()[acknowledged:], "an older state, or none that ever was"

    def states(self) -> list[Document]:
        """What the document was before and after each write to it, in the order of the log."""
        states: list[Document] = [None]
        for payload in self.service.log.history.values():
            states += [after(states[-1], write) for write in decode_writes(payload)]
        return states


def after(before: Document, write: Write) -> Document:
    if write.kind == Kind.DELETE:
        return None
    if write.kind == Kind.PATCH:
        return (before or {"_id": ID}) | bson.decode(write.body)["$set"]
    return before if before and write.kind == Kind.INSERT else bson.decode(write.body)


@settings(max_examples=600)
@given(st.lists(st.sampled_from(WRITES + READS + EVENTS), min_size=4, max_size=16))
def test_a_read_sees_every_write_that_was_acknowledged_before_it_began(events: list[str]) -> None:
    asyncio.run(Story().tell(events))

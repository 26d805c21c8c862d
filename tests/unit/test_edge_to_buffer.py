"""The edge over the intake that it really has; only the buffer is a double. An append begins at once, without a task of
its own, and may fail at once."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any, cast

import pytest
from bson import encode
from composed import NAMESPACE, Service
from edge import EdgeClient, outlives_its_caller, problem
from fake_intake import FakeIntake

from actors import lane as lanes
from actors import reads
from actors.appends import Kept
from actors.calls import Remote
from actors.core.errors import OutcomeUnknown, SpillwayError
from actors.core.intake import Found
from actors.remote_intake import RemoteIntake


class Buffer:
    """Keeps what it is sent once its gate is open, unless it is `failing`; every id stands for one `document`."""

    name = "buffer"

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.failing: SpillwayError | None = None
        self.document = {"n": 1}
        self.appends = 0

    async def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        if method == "read_near":
            return [Found(encode({"_id": id_, **self.document}), [], "buffer") for id_ in arguments[1]]
        if method == "sample":
            return []
        assert method == "append"
        self.appends += 1
        await self.gate.wait()
        if self.failing is not None:
            raise self.failing
        return Kept("1-0", 0, [])


def edge(buffer: Buffer) -> EdgeClient:
    remote = cast(Remote, buffer)
    intake = RemoteIntake([remote], ["0of1"], remote, timeout_s=1.0)
    return EdgeClient(cast(FakeIntake, intake), at_once=1)


async def test_an_append_that_fails_at_once_gives_its_turn_back(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = Buffer()
    client = edge(buffer)
    with monkeypatch.context() as patched:
        patched.setattr(lanes, "MAX_WAITING_BYTES", 10)
        for _ in range(3):
            problem(await client.post("/v1/shop/orders", json={}), 503, "queue-full")
            problem(await client.put("/v1/shop/orders/1", json={}), 503, "queue-full")
    assert buffer.appends == 0
    assert (await client.post("/v1/shop/orders", json={})).status_code == 202


async def test_an_append_goes_on_in_its_turn_when_its_caller_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "SPACING_S", 0.0)
    buffer = Buffer()
    client = edge(buffer)
    buffer.gate.clear()
    await outlives_its_caller(client, buffer.gate, lambda: buffer.appends)


@pytest.mark.parametrize("error", [None, OutcomeUnknown("Redis died")])
async def test_nothing_from_before_a_put_is_read_after_it(error: SpillwayError | None) -> None:
    """Also after one of which nobody knows whether it was kept."""
    buffer = Buffer()
    client = edge(buffer)

    async def read() -> int:
        return int((await client.get("/v1/shop/orders/1")).json()["n"])

    assert await read() == 1
    buffer.document = {"n": 2}
    assert await read() == 1, "from the near cache"
    buffer.failing = error
    assert (await client.put("/v1/shop/orders/1", json={"n": 2})).status_code == (504 if error else 202)
    assert await read() == 2


class Carrying:
    """Calls to a real buffer, and how large their answers are."""

    name = "buffer"

    def __init__(self, service: Service) -> None:
        self._service = service
        self.largest = 0

    async def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        answer = await getattr(self._service.buffer, method)(*arguments)
        self.largest = max(self.largest, len(pickle.dumps(answer)))
        return answer


async def test_fifty_large_documents_are_each_read_from_mongodb_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 15 MiB each they took 250 commands, 2.5 s of all there are, and 1.5 GiB in the writer."""
    service = await Service().start()
    size = 1024 * 1024
    ids = [f"id{number}" for number in range(50)]
    service.store.documents.update({(NAMESPACE, id_): bytes(size) for id_ in ids})
    service.store.answer_holds = 1
    buffer = Carrying(service)
    remote = cast(Remote, buffer)
    intake = RemoteIntake([remote], ["0of1"], remote, timeout_s=1.0)
    monkeypatch.setattr(reads, "ANSWER_BYTES", 2 * size)
    reading = asyncio.create_task(intake.read(NAMESPACE, ids))
    await service.clock.advance(1.0)
    assert reading.result() == [Found(bytes(size), [], "mongodb")] * 50
    assert [verb for _, verb, _ in service.store.commands].count("find") == 50
    assert buffer.largest < 3 * size
    await service.stop()

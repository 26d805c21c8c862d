"""Buffer and writer on a real Redis and a real MongoDB server: what the doubles show, shown once in earnest."""

from __future__ import annotations

import asyncio
import uuid
from functools import partial

import bson
import pytest
from fake_mongodb import Locked

from actors.adapters.clock import SystemClock
from actors.adapters.memory import MemoryLease, RecordingTelemetry
from actors.adapters.mongo_store import MongoStore
from actors.adapters.redis_cache import RedisCache
from actors.adapters.redis_dead_letters import RedisDeadLetters
from actors.adapters.redis_lease import RedisLease
from actors.adapters.redis_link import connect
from actors.adapters.redis_log import RedisLog
from actors.adapters.redis_streams import is_owner
from actors.appends import Bounds
from actors.budget import Budget
from actors.buffer import Buffer
from actors.core.arrivals import LaneCall
from actors.core.batching import BatchPolicy, Command, Origin, Verb
from actors.core.document import Kind, Write, encode_writes
from actors.core.outcome import Outcome
from actors.outbox import Outbox
from actors.tenure import Tenure
from actors.writer import Writer


class Forgetful(RedisLog):
    """An owner that dies before it can acknowledge anything."""

    async def acknowledge(self, position: str) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("kind", [Kind.INSERT, Kind.PUT, Kind.PATCH])
async def test_a_batch_that_was_stored_and_not_acknowledged_is_replayed_without_a_dead_letter(
    redis_url: str, mongodb_uri: str, kind: Kind
) -> None:
    run = uuid.uuid4().hex
    namespace, prefix, clock = f"spillway_test.c{run}", f"t{run}", SystemClock()
    client = connect(redis_url, 2.0)
    letters = RedisDeadLetters(client, prefix)
    store = MongoStore(mongodb_uri, timeout_s=5.0, lanes=4)
    tenure = Tenure(RedisLease(client, prefix, 3.0, 5.0), clock)
    owns = partial(is_owner, client, prefix)
    writer = Writer(
        store, Outbox(1_000, 8 << 20, owns), Budget(100, 4, 5.0, clock), tenure, clock, RecordingTelemetry(), lanes=4,
        counted=(namespace,),
    )  # fmt: skip
    working = asyncio.create_task(writer.run())

    def buffer(log: RedisLog) -> Buffer:
        return Buffer(
            log, writer, RedisCache(client, prefix, "0of1", 60), letters, clock, RecordingTelemetry(),
            BatchPolicy(500, 8 << 20, 0.05), Bounds(10_000, 64 << 20, 1_000, 4 << 20, 4.0),
        )  # fmt: skip

    def write(i: int) -> Write:
        body = {"$set": {"n": i}} if kind == Kind.PATCH else {"_id": f"id{i}", "n": i}
        return Write(kind, namespace, f"id{i}", bson.encode(body))

    first = buffer(Forgetful(client, prefix, "0of1", letters, once_ttl_s=60))
    await first.open()
    living = asyncio.create_task(first.run())
    kept = [
        await first.append(LaneCall("lane", at, 100), encode_writes([write(i) for i in range(at, at + 100)]), 100)
        for at in range(0, 500, 100)
    ]
    assert (await first.wait_for(kept[-1].position, 30.0)).position == kept[-1].position
    living.cancel()

    log = RedisLog(client, prefix, "0of1", letters, once_ttl_s=60)
    second = buffer(log)
    await second.open()
    assert second.stats()["writes"] == 500
    living = asyncio.create_task(second.run())
    assert await second.drain(30.0) == 0
    assert await letters.size() == 0
    assert writer.stats()["documents"] == {namespace: 500}
    assert await store.count(namespace) == 500
    found = await second.read(namespace, ["id0", "id499", "id500"])
    assert [one.base and bson.decode(one.base)["n"] for one in found] == [0, 499, None]
    for task in (living, working):
        task.cancel()
    await asyncio.wait({living, working})
    await writer.close()
    await client.aclose()


async def test_a_server_that_hangs_and_greets_keeps_nothing_that_was_given_up() -> None:
    """Else all of it would be executed when the lock goes: in one second, and after what was stored meanwhile."""
    lanes, timeout_s, clock, server = 2, 0.5, SystemClock(), Locked()

    async def owns(_: Origin) -> bool:
        return True

    async def store_at_last(namespace: str) -> None:
        command = Command(Verb.UPDATE, namespace, ["a"], [bson.encode({"_id": "a"})])
        while (await writer.write([command]))[0].outcomes != bytes([Outcome.STORED]):
            await asyncio.sleep(0.05)

    async with server as uri:
        writer = Writer(
            MongoStore(uri, timeout_s=timeout_s, lanes=lanes), Outbox(1_000, 8 << 20, owns),
            Budget(100, lanes, timeout_s, clock), Tenure(MemoryLease(clock, ttl_s=3.0), clock), clock,
            RecordingTelemetry(), lanes=lanes,
        )  # fmt: skip
        working = asyncio.create_task(writer.run())
        writes = [asyncio.create_task(store_at_last(f"d.c{i}")) for i in range(3 * lanes)]
        await asyncio.sleep(1.0 + 8 * timeout_s)
        assert server.most_waiting == lanes
        server.unlocked.set()
        await asyncio.wait_for(asyncio.gather(*writes), 30.0)
        assert server.most_waiting == lanes
        working.cancel()
        await asyncio.wait({working})
        await writer.close()

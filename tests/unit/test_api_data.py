"""GET /api/data and GET /api/stats."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import bson
import pytest
from edge import EdgeClient, problem
from fake_intake import FakeIntake

from actors.core.document import Kind
from actors.core.errors import DatabaseUnavailable, QueueFull
from actors.core.intake import Found
from serve_app import pool

NAMESPACE = "assessmentdb.records"


def with_documents(client: EdgeClient, count: int) -> None:
    for i in range(count):
        body = bson.encode({"_id": f"d{i}"})
        client.intake.sampled.append((f"d{i}", body))
        client.intake.documents[NAMESPACE, f"d{i}"] = Found(body, [], "cache")


async def turn() -> None:
    """Lets background tasks run to their next wait."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def client() -> EdgeClient:
    return EdgeClient()


async def test_it_writes_five_documents_and_answers_when_they_are_kept(client: EdgeClient) -> None:
    response = await client.get("/api/data")
    assert response.status_code == 200
    answer = response.json()
    assert list(answer) == ["status", "reads", "writes", "timestamp"]
    assert answer["status"] == "success"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", answer["timestamp"])
    (writes,) = client.intake.appends
    assert [write.id for write in writes] == answer["writes"]
    assert {(write.kind, write.namespace) for write in writes} == {(Kind.INSERT, NAMESPACE)}
    documents = [bson.decode(write.body) for write in writes]
    assert [document["index"] for document in documents] == [0, 1, 2, 3, 4]
    assert all(list(document) == ["_id", "type", "index", "payload", "timestamp"] for document in documents)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_it_answers_no_earlier_than_the_append(client: EdgeClient) -> None:
    client.intake.held = asyncio.Event()
    asked = asyncio.create_task(client.get("/api/data"))
    await turn()
    assert not asked.done()
    client.intake.held.set()
    assert (await asked).status_code == 200


async def test_it_reads_five_distinct_documents_through_the_intake(client: EdgeClient) -> None:
    """The very first request too: it waits until MongoDB has been asked."""
    with_documents(client, 20)
    answer = (await client.get("/api/data")).json()
    assert len(set(answer["reads"])) == 5
    ((namespace, ids),) = client.intake.reads
    assert namespace == NAMESPACE
    assert set(ids) == set(answer["reads"])


async def test_reads_come_from_the_near_cache_the_next_time(client: EdgeClient) -> None:
    with_documents(client, 5)
    await client.get("/api/data")
    await turn()
    client.intake.sampled.clear()
    for _ in range(10):
        await client.get("/api/data")
    asked = [id_ for _, ids in client.intake.reads for id_ in ids]
    assert len(asked) == len(set(asked))


async def test_the_pool_is_read_ahead_in_one_call_before_the_near_cache_forgets_it(client: EdgeClient) -> None:
    with_documents(client, 20)
    for _ in range(30):
        await client.get("/api/data")
        await turn()
    client.intake.reads.clear()
    client.clock.now += 0.75  # near_cache_ttl_s is 1
    for _ in range(10):
        await client.get("/api/data")
        await turn()
    ((_, ids),) = client.intake.reads
    assert len(ids) == 20


@pytest.mark.parametrize("off", [{"near_cache_ttl_s": 0.0}, {"near_cache_max_entries": 0}])
async def test_without_a_near_cache_nothing_is_read_ahead(off: dict[str, Any]) -> None:
    """A time to live of 0 was over at once: all of the pool was read for each request, and thrown away."""
    client = EdgeClient(**off)
    with_documents(client, 20)
    for _ in range(10):
        await client.get("/api/data")
        await turn()
        client.clock.now += 0.75
    assert {len(ids) for _, ids in client.intake.reads} == {5}


async def test_an_empty_collection_has_nothing_to_read(client: EdgeClient) -> None:
    for _ in range(2):
        assert (await client.get("/api/data")).json()["reads"] == []
        await turn()


async def test_the_pool_is_bounded_and_asks_for_a_sample_rarely(client: EdgeClient) -> None:
    for _ in range(50):
        await client.get("/api/data")
        await turn()
    assert client.intake.samples == 1


async def test_a_document_that_is_gone_is_not_told_as_read(client: EdgeClient) -> None:
    with_documents(client, 5)
    del client.intake.documents[NAMESPACE, "d3"]
    reads = [(await client.get("/api/data")).json()["reads"] for _ in range(5)]
    assert [sorted(ids) for ids in reads] == [["d0", "d1", "d2", "d4"]] * 5, "nor in the answer that finds it out"


@pytest.mark.parametrize("failing", [DatabaseUnavailable(), ValueError("a document that cannot be patched")])
async def test_a_read_that_fails_leaves_the_writes(client: EdgeClient, failing: Exception) -> None:
    with_documents(client, 5)
    await client.get("/api/data")
    await turn()
    client.intake.failing_reads = failing
    response = await client.get("/api/data")
    assert response.status_code == 200
    assert len(response.json()["writes"]) == 5
    assert set(response.json()["reads"]) <= {f"d{i}" for i in range(5)}


async def test_a_full_queue_is_told_and_nothing_counts_as_written(client: EdgeClient) -> None:
    client.intake.failing = QueueFull("full", 2.2)
    response = await client.get("/api/data")
    problem(response, 503, "queue-full")
    assert response.headers["retry-after"] == "3"
    client.intake.failing = None
    assert (await client.get("/api/data")).json()["reads"] == []


async def test_unknown_parameters_write_nothing(client: EdgeClient) -> None:
    problem(await client.get("/api/data?n=5"), 400, "unknown-parameter", "n")
    assert client.intake.appends == []


async def test_other_methods_are_not_possible(client: EdgeClient) -> None:
    response = await client.post("/api/data")
    problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == "GET"
    assert client.intake.appends == []


async def test_stats_tells_the_stored_count(client: EdgeClient) -> None:
    response = await client.get("/api/stats")
    assert response.status_code == 200
    assert response.json().keys() == {"total_documents", "timestamp"}
    assert response.json()["total_documents"] == 42


@pytest.mark.parametrize("status", [{"ready": True}, {"ready": True, "documents": {"other.one": 1}}])
async def test_stats_does_not_guess(status: dict[str, Any]) -> None:
    client = EdgeClient()
    client.intake.up = status
    problem(await client.get("/api/stats"), 503, "count-unknown")


async def test_pool_is_bounded_and_forgets(client: EdgeClient) -> None:
    ids = pool.Pool(client.intake, NAMESPACE)
    client.intake.sampled = [(f"a{i}", b"") for i in range(200)]
    ids.refresh_if_due(0.0)
    await turn()
    assert len(ids) == pool.SIZE
    ids.forget([f"a{i}" for i in range(98)])
    assert sorted(ids.pick(5)) == ["a98", "a99"]


async def test_pool_survives_a_failing_sample_and_asks_again_soon(client: EdgeClient) -> None:
    ids = pool.Pool(client.intake, NAMESPACE)
    client.intake.failing = DatabaseUnavailable()
    ids.refresh_if_due(0.0)
    await turn()
    assert len(ids) == 0
    client.intake.failing = None
    client.intake.sampled = [(f"a{i}", b"") for i in range(5)]
    ids.refresh_if_due(pool.HUNGRY_REFRESH_S - 0.1)
    await turn()
    assert len(ids) == 0
    ids.refresh_if_due(pool.HUNGRY_REFRESH_S)
    ids.refresh_if_due(pool.HUNGRY_REFRESH_S)
    await turn()
    assert (len(ids), client.intake.samples) == (5, 2)


async def test_a_pool_that_was_emptied_is_hungry_at_once(client: EdgeClient) -> None:
    """MongoDB was away for a second, and what could not be read was forgotten."""
    ids = pool.Pool(client.intake, NAMESPACE)
    client.intake.sampled = [(f"a{i}", b"") for i in range(5)]
    for now in (0.0, pool.REFRESH_S):
        ids.refresh_if_due(now)
        await turn()
    ids.forget(ids.ids)
    ids.refresh_if_due(pool.REFRESH_S + pool.HUNGRY_REFRESH_S)
    await turn()
    assert len(ids) == 5


async def test_only_the_first_sample_is_waited_for_and_not_for_long(client: EdgeClient) -> None:
    """With MongoDB away each of them takes seconds, and the writes are what matters."""
    held = asyncio.Event()

    class Slow(FakeIntake):
        async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
            await held.wait()
            return []

    ids = pool.Pool(Slow(), NAMESPACE)
    ids.refresh_if_due(0.0)
    await ids.asked_once(0.0)
    waiting = asyncio.create_task(ids.asked_once(60.0))
    await turn()
    assert not waiting.done()
    held.set()
    await turn()
    assert waiting.done()
    held.clear()
    ids.refresh_if_due(pool.HUNGRY_REFRESH_S)
    await asyncio.wait_for(ids.asked_once(60.0), 1.0)


async def test_a_pool_with_enough_asks_rarely(client: EdgeClient) -> None:
    ids = pool.Pool(client.intake, NAMESPACE)
    client.intake.sampled = [(f"a{i}", b"") for i in range(5)]
    for now in (0.0, pool.REFRESH_S - 0.1, pool.REFRESH_S):
        ids.refresh_if_due(now)
        await turn()
    assert client.intake.samples == 2


async def test_pool_takes_ids_in_our_form_only(client: EdgeClient) -> None:
    client.intake.sampled = [
        ('{"$oid": "0123456789ABCDEF01234567"}', b""),
        ('{"$numberLong": "5"}', b""),
        ("{x", b""),
        ("a\x1f", b""),
    ]
    ids = pool.Pool(client.intake, NAMESPACE)
    ids.refresh_if_due(0.0)
    await turn()
    assert sorted(ids.pick(5)) == ['{"$numberInt":"5"}', '{"$oid":"0123456789abcdef01234567"}']

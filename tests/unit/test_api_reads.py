"""GET of a document."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import bson
import pytest
from bson import ObjectId
from edge import EdgeClient, problem
from fake_intake import FakeIntake
from loop_clock import stop_clock

from actors.core.document import Key
from actors.core.errors import DatabaseUnavailable
from actors.core.intake import Found
from serve_app import patches, reads
from serve_app.near_cache import NearCache
from serve_app.parameters import Targets
from serve_app.reads import Reader

DOCUMENT = "/v1/shop/orders/o1"
KEY = ("shop.orders", "o1")


@pytest.fixture
def client() -> EdgeClient:
    return EdgeClient()


def hold(client: EdgeClient, source: str = "mongodb", **members: object) -> None:
    client.intake.documents[KEY] = Found(bson.encode({"_id": "o1", **members}), [], source)


@pytest.mark.parametrize("source", ["buffer", "cache", "mongodb"])
async def test_a_document_as_relaxed_extended_json(client: EdgeClient, source: str) -> None:
    hold(client, source, n=5, o=ObjectId("0123456789abcdef01234567"), t="é")
    response = await client.get(DOCUMENT)
    assert response.status_code == 200
    assert response.json() == {"_id": "o1", "n": 5, "o": {"$oid": "0123456789abcdef01234567"}, "t": "é"}
    assert response.headers["x-spillway-source"] == source
    assert response.headers["content-type"] == "application/json"
    assert client.intake.reads == [("shop.orders", ["o1"])]


async def test_there_is_none(client: EdgeClient) -> None:
    problem(await client.get(DOCUMENT), 404, "no-such-document", "id")


async def test_ids_of_any_kind_reach_the_intake_in_one_form(client: EdgeClient) -> None:
    for path in ("a/b", "a%2Fb", "%7B%22$numberLong%22:%20%225%22%7D", '{"$oid":"0123456789ABCDEF01234567"}'):
        await client.get(f"/v1/shop/orders/{path}")
    assert [ids for _, ids in client.intake.reads] == [
        ["a/b"], ["a/b"], ['{"$numberInt":"5"}'], ['{"$oid":"0123456789abcdef01234567"}'],
    ]  # fmt: skip


async def test_the_second_read_is_near_unless_asked_otherwise(client: EdgeClient) -> None:
    hold(client)
    sources = [(await client.get(DOCUMENT)).headers["x-spillway-source"] for _ in range(2)]
    fresh = await client.get(DOCUMENT, headers={"cache-control": "No-Cache"})
    assert [*sources, fresh.headers["x-spillway-source"]] == ["mongodb", "near", "mongodb"]


@pytest.mark.parametrize("lines", [["no-cache", "max-age=0"], ["max-age=0", "no-store, No-Cache"]])
async def test_what_is_asked_otherwise_may_stand_in_any_line(client: EdgeClient, lines: list[str]) -> None:
    hold(client)
    await client.get(DOCUMENT)
    fresh = await client.get(DOCUMENT, headers=[("cache-control", line) for line in lines])
    assert fresh.headers["x-spillway-source"] == "mongodb"


async def test_nothing_found_is_not_cached(client: EdgeClient) -> None:
    assert (await client.get(DOCUMENT)).status_code == 404
    hold(client)
    assert (await client.get(DOCUMENT)).status_code == 200


async def test_one_reads_what_one_wrote(client: EdgeClient) -> None:
    steps = [
        ("PUT", {"a": {"b": 1, "c": 2}}, {"_id": "o1", "a": {"b": 1, "c": 2}}),
        ("PATCH", {"a": {"b": None, "d": 3}}, {"_id": "o1", "a": {"c": 2, "d": 3}}),
        ("PATCH", {"x": [1]}, {"_id": "o1", "a": {"c": 2, "d": 3}, "x": [1]}),
        ("DELETE", None, None),
        ("PATCH", {"y": 1}, {"_id": "o1", "y": 1}),
    ]
    for method, body, expected in steps:
        await client.request(method, DOCUMENT, **({} if body is None else {"json": body}))
        for _ in range(2):
            response = await client.get(DOCUMENT)
            assert (response.json() if response.status_code == 200 else None) == expected


async def test_one_reads_what_one_posted_under_an_own_id(client: EdgeClient) -> None:
    hold(client, n=1)
    await client.get(DOCUMENT)
    await client.post("/v1/shop/orders", json={"_id": "o1", "n": 2})
    assert (await client.get(DOCUMENT)).json()["n"] == 2


async def test_patches_on_nothing_make_a_document_as_the_upsert_will(client: EdgeClient) -> None:
    client.intake.documents[KEY] = Found(None, [bson.encode({"$set": {"a.b": 1}})], "mongodb")
    assert (await client.get(DOCUMENT)).json() == {"_id": "o1", "a": {"b": 1}}


async def test_a_read_overtaken_by_a_write_does_not_stay_in_the_cache() -> None:
    class Slow(FakeIntake):
        """Its answer is from before the write that happens meanwhile."""

        async def read(self, namespace: str, ids: Sequence[str]) -> list[Found]:
            found = await super().read(namespace, ids)
            await asyncio.sleep(0)
            near.evict(Key(*KEY))
            return found

    near = NearCache(1.0, 10)
    intake = Slow()
    intake.documents[KEY] = Found(bson.encode({"_id": "o1"}), [], "mongodb")
    reader = Reader(intake, near, Targets("*"), lambda: 0.0)
    assert (await reader.fetch("shop.orders", ["o1"]))[0].source == "mongodb"
    assert reader.near("shop.orders", "o1") is None


async def test_the_near_cache_ages() -> None:
    now = [0.0]
    intake = FakeIntake()
    intake.documents[KEY] = Found(bson.encode({"_id": "o1"}), [], "mongodb")
    reader = Reader(intake, NearCache(1.0, 10), Targets("*"), lambda: now[0])
    await reader.fetch("shop.orders", ["o1"])
    now[0] = 0.9
    assert reader.near("shop.orders", "o1") is not None
    now[0] = 1.0
    assert reader.near("shop.orders", "o1") is None


async def test_a_near_copy_ages_while_it_waits_for_the_other_documents_of_its_read() -> None:
    """A buffer tells it at once and MongoDB the others seconds later; meanwhile it may be changed elsewhere."""

    class Slow(FakeIntake):
        async def read(self, namespace: str, ids: Sequence[str]) -> list[Found]:
            found = await super().read(namespace, ids)
            now[0] += took_s
            return found

    now, intake = [0.0], Slow()
    intake.documents[KEY] = Found(bson.encode({"_id": "o1"}), [], "buffer")
    reader = Reader(intake, NearCache(1.0, 10), Targets("*"), lambda: now[0])
    took_s = 0.5
    await reader.fetch("shop.orders", ["o1", "o2"])
    assert reader.near("shop.orders", "o1") is not None
    now[0] += 0.5
    assert reader.near("shop.orders", "o1") is None
    took_s = 4.0
    await reader.fetch("shop.orders", ["o1", "o2"])
    assert reader.near("shop.orders", "o1") is None


async def test_mongodb_down(client: EdgeClient) -> None:
    client.intake.failing_reads = DatabaseUnavailable()
    problem(await client.get(DOCUMENT), 503, "mongodb-unavailable")
    problem(await client.get(f"{DOCUMENT}?fields=a"), 400, "unknown-parameter", "fields")


@pytest.mark.parametrize("count", [1_000, 50])  # of small patches, and of large ones
async def test_many_readers_of_a_document_put_it_together_once_and_let_others_be_answered(
    client: EdgeClient, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """Each for itself, a hundred thousand patches at a time, they would stop the replica for seconds."""
    base = bson.encode({"_id": "o1"})
    client.intake.documents[KEY] = Found(base, [bson.encode({"$set": {"n": n}}) for n in range(count)], "mongodb")
    begun: list[int] = []

    def slow(*arguments: Any) -> Iterator[dict[str, Any]]:
        begun.append(1)
        for step in patches.steps(*arguments):
            client.clock.now += 0.5 / count
            yield step

    monkeypatch.setattr(reads, "steps", slow)
    reading = asyncio.gather(*(client.get(DOCUMENT) for _ in range(10)))
    turns = 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += bool(begun)
    assert {answer.json()["n"] for answer in await reading} == {count - 1}
    assert len(begun) == 1
    assert turns >= 40


async def test_few_documents_are_put_together_at_once_and_who_waits_too_long_is_told(
    client: EdgeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes many times its bytes meanwhile: without a bound more come than are ever answered, and stay."""
    begun: list[int] = []
    go_on = asyncio.Event()

    async def found(_namespace: str, ids: Sequence[str]) -> list[Found]:
        return [Found(bson.encode({"_id": id_}), [bson.encode({"$set": {"n": 1}})], "buffer") for id_ in ids]

    def slow(*arguments: Any) -> Iterator[dict[str, Any]]:
        begun.append(1)
        client.clock.now += 1.0
        yield from patches.steps(*arguments)

    advance = stop_clock(monkeypatch)
    monkeypatch.setattr(client.intake, "read", found)
    monkeypatch.setattr(reads, "steps", slow)
    monkeypatch.setattr(reads.Breather, "take", lambda _: go_on.wait())
    asked = [asyncio.create_task(client.get(DOCUMENT)) for _ in range(7)]
    await advance(0.0)  # they begin
    await advance(4.9)
    assert (len(begun), [task.done() for task in asked]) == (4, [False] * 7)
    await advance(0.2)
    for task in asked[4:]:
        problem(task.result(), 503, "overloaded")
    go_on.set()
    assert [(await task).json()["n"] for task in asked[:4]] == [1] * 4
    assert (await client.get("/v1/shop/orders/o2")).json() == {"_id": "o2", "n": 1}


async def test_a_near_copy_ages_while_it_is_put_together(client: EdgeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a write elsewhere would go unseen for that time and the near cache's age."""
    client.intake.documents[KEY] = Found(bson.encode({"_id": "o1"}), [bson.encode({"$set": {"n": 1}})], "mongodb")

    def slow(*arguments: Any) -> Iterator[dict[str, Any]]:
        client.clock.now += 1.5
        yield from patches.steps(*arguments)

    monkeypatch.setattr(reads, "steps", slow)
    sources = [(await client.get(DOCUMENT)).headers["x-spillway-source"] for _ in range(2)]
    assert sources == ["mongodb", "mongodb"]

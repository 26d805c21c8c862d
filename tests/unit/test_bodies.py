"""Bodies that come in pieces, or not at all: what they may hold together, and for how long."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import bson
import httpx
import pytest
from edge import EdgeClient, problem
from starlette.requests import Request

from actors.adapters.clock import settle
from serve_app import patches, writes
from serve_app.bodies import Bodies
from serve_app.errors import Problem
from serve_app.turns import Turns

ONE_BY_ONE = [  # writes whose documents are parsed each by itself
    ("POST", "", "application/json"),
    ("PUT", "/x", "application/json"),
    ("PATCH", "/x", "application/json"),
    ("POST", "/batch", "application/x-ndjson"),
]


def request(*pieces: bytes, goes_on: asyncio.Event | None = None) -> Request:
    """Its body ends with an empty piece, or when `goes_on` is set."""
    messages = [{"type": "http.request", "body": piece, "more_body": piece != b""} for piece in pieces]

    async def receive() -> Any:
        if messages:
            return messages.pop(0)
        assert goes_on is not None
        await goes_on.wait()
        return {"type": "http.request", "body": b"", "more_body": False}

    return Request({"type": "http"}, receive)


async def test_bodies_under_way_are_bounded_together() -> None:
    bodies, goes_on = Bodies(max_bytes=100, max_together_bytes=150), asyncio.Event()
    waiting = asyncio.create_task(bodies.read(request(b"x" * 90, goes_on=goes_on), {}))
    await asyncio.sleep(0)
    assert await bodies.read(request(b"y" * 50, b""), {}) == b"y" * 50
    with pytest.raises(Problem, match="out-of-memory"):
        await bodies.read(request(b"y" * 50, b"y" * 20, b""), {})
    goes_on.set()
    assert await waiting == b"x" * 90
    assert await bodies.read(request(b"y" * 50, b"y" * 50, b""), {}) == b"y" * 100


async def test_a_body_that_does_not_come_is_not_waited_for_for_ever() -> None:
    bodies = Bodies(max_bytes=100, max_together_bytes=150, patience_s=0.0)
    for pieces in ((), (b"x" * 90,), (b"x" * 90,), (b"x" * 90,)):  # and is not counted any more
        with pytest.raises(Problem, match="body-too-slow"):
            await bodies.read(request(*pieces, goes_on=asyncio.Event()), {})


@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/v1/shop/orders/o1"), ("GET", "/v1/shop/orders/o1"), ("GET", "/api/data"), ("GET", "/v1/status")],
)
async def test_a_body_that_nobody_asked_for_is_bounded_too(method: str, path: str) -> None:
    """Serve's server collects what comes until the answer does, which may wait for MongoDB."""
    client = EdgeClient()

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1_000

    problem(await client.request(method, path, content=endless()), 413, "body-too-large")
    assert client.intake.writes == []
    without = await client.request(method, path)
    assert (await client.request(method, path, content=b"{}")).status_code == without.status_code


async def test_one_body_may_always_be_as_large_as_one_may_be() -> None:
    bodies = Bodies(max_bytes=100, max_together_bytes=1)
    assert await bodies.read(request(b"x" * 50, b"x" * 50, b""), {}) == b"x" * 100
    with pytest.raises(Problem, match="body-too-large"):
        await bodies.read(request(b"x" * 50, b"x" * 51, b""), {})


@pytest.mark.parametrize("said", [b"", b"0", b"0" * 5_000, b"0" * 5_000 + b"100"])
async def test_a_length_may_have_zeros_in_front(said: bytes) -> None:
    bodies = Bodies(max_bytes=100)
    assert await bodies.read(request(b"x" * 100, b""), {b"content-length": said}) == b"x" * 100
    with pytest.raises(Problem, match="body-too-large"):
        await bodies.read(request(b""), {b"content-length": b"0" * 5_000 + b"101"})


@pytest.mark.parametrize("waits_for", ["its turn", "its append", "MongoDB"])
@pytest.mark.parametrize(
    ("method", "path", "text"),
    [
        ("POST", "", b'{"a": 1}'),
        ("PUT", "/x", b'{"a": 1}'),
        ("PATCH", "/x", b'{"a": 1}'),
        ("POST", "/batch", b'[{"a": 1}]'),
    ],
)
async def test_while_a_write_waits_its_document_is_held_and_not_its_body(
    waits_for: str, method: str, path: str, text: bytes
) -> None:
    """Ten bodies of a megabyte of blanks, of which no bound but their own would know."""
    client = EdgeClient(at_once=1 if waits_for == "its turn" else 100)
    go_on = asyncio.Event()
    if waits_for == "MongoDB":
        client.intake.held_waits = go_on
    else:
        client.intake.held = go_on

    async def body() -> AsyncIterator[bytes]:
        yield text + b" " * 1_000_000

    tracemalloc.start()
    try:
        url, headers = f"/v1/shop/orders{path}?ack=db", {"Content-Type": "application/json"}
        asks = [asyncio.create_task(client.request(method, url, content=body(), headers=headers)) for _ in range(10)]
        for _ in range(5):
            await settle()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not any(ask.done() for ask in asks)
    go_on.set()
    assert [(await ask).status_code for ask in asks] == [201] * 10
    assert held < 5_000_000


@pytest.mark.parametrize(("method", "path", "media"), ONE_BY_ONE)
async def test_more_values_than_a_document_has_bytes_are_not_even_parsed(
    method: str, path: str, media: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []
    monkeypatch.setattr(writes, "parse", lambda body: parsed.append(body) or {"a": 1})
    client = EdgeClient(max_document_bytes=1_000)
    for commas, is_parsed in ((1_000, True), (1_001, False)):
        parsed.clear()
        text = '{"a":[1' + ",1" * commas + "]}"
        response = await client.send_json(method, f"/v1/shop/orders{path}", text, content_type=media)
        assert (len(parsed) == 1) is is_parsed
        assert is_parsed is response.is_success
        assert is_parsed or "document-too-large" in response.text


@pytest.mark.parametrize(
    "value", [[1] * 600, [{}] * 200, [[]] * 200, [[{}, 1, []]] * 100, {f"{i}": {} for i in range(250)}, [[0] * 40] * 15]
)
@pytest.mark.parametrize(("method", "path", "media"), [*ONE_BY_ONE, ("POST", "/batch", "application/json")])
async def test_more_values_than_a_document_has_bytes_are_not_looked_at_one_by_one(
    method: str, path: str, media: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody is answered for seconds while one document of a batch is looked at."""
    seen: list[Any] = []
    plain = writes.document

    def note(parsed: Any) -> dict[str, Any]:
        seen.append(parsed)
        return plain(parsed)

    for module in (writes, patches):
        monkeypatch.setattr(module, "document", note)
    client = EdgeClient(max_document_bytes=1_000)
    large = json.dumps({"a": value}) + " " * 1_000
    text = f'[{large},\n{{"b":1}}]' if (path, media) == ("/batch", "application/json") else large
    response = await client.send_json(method, f"/v1/shop/orders{path}", text, content_type=media)
    assert "it has more values" in response.text
    assert seen == ([{"b": 1}] if response.is_success else [])


async def test_commas_in_a_text_are_no_reason_to_refuse_it() -> None:
    document = {"_id": "x", "a": "," * 970}
    client = EdgeClient(max_document_bytes=len(bson.encode(document)))
    assert (await client.post("/v1/shop/orders", json=document)).status_code == 202
    problem(await client.post("/v1/shop/orders", json=document | {"a": "," * 971}), 413, "document-too-large")


LARGE = "[" + ",".join(['{"a":"' + "x" * 3_000 + '"}'] * 100) + "]"


async def test_a_large_batch_lets_others_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    client = EdgeClient()
    others: list[httpx.Response] = []
    told: list[int] = []  # others that have been answered when each document of the batch is looked at
    plain = writes.document

    def slow(parsed: Any) -> dict[str, Any]:
        client.clock.now += 0.01
        told.append(len(others))
        return plain(parsed)

    monkeypatch.setattr(writes, "document", slow)
    batch = asyncio.create_task(client.send_json("POST", "/v1/shop/orders/batch", LARGE))
    while not told:
        await asyncio.sleep(0)
    while not batch.done():
        others.append(await client.delete("/v1/shop/orders/x"))
    assert (await batch).json()["accepted"] == 100
    assert told[0] == 0
    assert told[-1] > 3
    assert {other.status_code for other in others} == {202}


async def test_large_batches_that_wait_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "Turns", partial(Turns, max_waiting_bytes=len(LARGE)))
    client = EdgeClient()
    document = writes.document

    def slow(parsed: Any) -> dict[str, Any]:
        client.clock.now += 0.01
        return document(parsed)

    monkeypatch.setattr(writes, "document", slow)
    asks = (client.send_json("POST", "/v1/shop/orders/batch", LARGE) for _ in range(3))
    at_work, waits, refused = await asyncio.gather(*asks)
    assert (at_work.status_code, waits.status_code) == (202, 202)
    problem(refused, 503, "overloaded")


async def test_one_large_batch_is_parsed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    client = EdgeClient()
    seen: list[str] = []
    parse, document = writes.parse, writes.document

    def note_parse(body: bytes) -> Any:
        seen.append("parse")
        return parse(body)

    def note_document(parsed: Any) -> dict[str, Any]:
        client.clock.now += 0.01
        seen.append("document")
        return document(parsed)

    monkeypatch.setattr(writes, "parse", note_parse)
    monkeypatch.setattr(writes, "document", note_document)
    asks = (client.send_json("POST", "/v1/shop/orders/batch", LARGE) for _ in range(3))
    assert [answer.json()["accepted"] for answer in await asyncio.gather(*asks)] == [100] * 3
    assert seen == (["parse"] + ["document"] * 100) * 3

"""POST, batch, PUT, PATCH, DELETE."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import bson
import httpx
import pytest
from bson import ObjectId
from edge import EdgeClient, problem
from loop_clock import stop_clock

from actors.adapters.clock import settle
from actors.core.document import Kind, Write
from actors.core.errors import BufferUnavailable, OutcomeUnknown, QueueFull
from actors.core.intake import State
from actors.core.receipt import decode_receipt
from serve_app import writes
from serve_app.parameters import RESERVED_DATABASES

ONE = "/v1/shop/orders"
BATCH = f"{ONE}/batch"
DOCUMENT = f"{ONE}/o1"
WRITES = [("POST", ONE), ("POST", BATCH), ("PUT", DOCUMENT), ("PATCH", DOCUMENT), ("DELETE", DOCUMENT)]


@pytest.fixture
def client() -> EdgeClient:
    return EdgeClient()


def text_for(path: str) -> str:
    return '[{"a":1}]' if path == BATCH else '{"a":1}'


def accepted(response: httpx.Response, status: int = 202, state: str = "logged") -> dict[str, Any]:
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    assert list(answer) == ["id", "receipt", "state"]
    assert answer["state"] == state
    assert response.headers["location"] == f"/v1/receipts/{answer['receipt']}"
    assert response.headers["vary"] == "Prefer"
    assert response.headers["cache-control"] == "no-store"
    assert decode_receipt(answer["receipt"]).id == answer["id"]
    return answer


async def test_a_document_without_id_is_an_insert_under_an_id_of_ours(client: EdgeClient) -> None:
    answer = accepted(await client.post(ONE, json={"a": {"$numberLong": "5"}, "b": [1.5, None]}))
    (write,) = client.intake.writes
    assert (write.kind, write.namespace, write.id) == (Kind.INSERT, "shop.orders", answer["id"])
    assert uuid.UUID(write.id).version == 7
    assert bson.decode(write.body) == {"_id": write.id, "a": 5, "b": [1.5, None]}
    assert next(iter(bson.decode(write.body))) == "_id"


@pytest.mark.parametrize(
    ("given", "text", "stored"),
    [
        ("order 1", "order 1", "order 1"),
        (7, '{"$numberInt":"7"}', 7),
        (7.0, '{"$numberInt":"7"}', 7),
        ({"$numberLong": "7"}, '{"$numberInt":"7"}', 7),
        (
            {"$oid": "0123456789ABCDEF01234567"},
            '{"$oid":"0123456789abcdef01234567"}',
            ObjectId("0123456789abcdef01234567"),
        ),
    ],
)
async def test_a_document_with_its_own_id_replaces_what_is_there(
    client: EdgeClient, given: Any, text: str, stored: Any
) -> None:
    assert accepted(await client.post(ONE, json={"a": 1, "_id": given}))["id"] == text
    (write,) = client.intake.writes
    assert (write.kind, write.id) == (Kind.PUT, text)
    assert list(bson.decode(write.body).items()) == [("_id", stored), ("a", 1)]


@pytest.mark.parametrize(
    "given", [None, True, 1.5, 1e30, "", "{x", "batch", [], {}, {"$date": "2026-01-01T00:00:00Z"}, "a\x1fb"]
)
async def test_an_id_that_cannot_be_used(client: EdgeClient, given: Any) -> None:
    problem(await client.post(ONE, json={"_id": given}), 422, "invalid-id", "_id")
    assert client.intake.appends == []


async def test_put_replaces_the_document_in_the_path(client: EdgeClient) -> None:
    assert accepted(await client.put(DOCUMENT, json={"a": 1}))["id"] == "o1"
    accepted(await client.put(DOCUMENT, json={"a": 2, "_id": "o1"}))
    accepted(await client.put(f"{ONE}/%7B%22$numberInt%22:%225%22%7D", json={"_id": 5}))
    accepted(await client.put(f"{ONE}/a%2Fb/c", json={}))
    assert [(write.kind, write.id, bson.decode(write.body)) for write in client.intake.writes] == [
        (Kind.PUT, "o1", {"_id": "o1", "a": 1}),
        (Kind.PUT, "o1", {"_id": "o1", "a": 2}),
        (Kind.PUT, '{"$numberInt":"5"}', {"_id": 5}),
        (Kind.PUT, "a/b/c", {"_id": "a/b/c"}),
    ]


async def test_put_of_another_id_is_refused(client: EdgeClient) -> None:
    problem(await client.put(DOCUMENT, json={"_id": "o2"}), 422, "invalid-id", "_id")
    problem(await client.put(f"{ONE}/5", json={"_id": 5}), 422, "invalid-id", "_id")
    assert client.intake.appends == []


@pytest.mark.parametrize(
    "media_type", ["application/merge-patch+json", "application/json", "Application/JSON; charset=UTF-8"]
)
async def test_patch_is_one_update(client: EdgeClient, media_type: str) -> None:
    accepted(await client.send_json("PATCH", DOCUMENT, '{"a":{"b":1,"c":null}}', content_type=media_type))
    (write,) = client.intake.writes
    assert (write.kind, write.id) == (Kind.PATCH, "o1")
    assert bson.decode(write.body) == {"$set": {"a.b": 1}, "$unset": {"a.c": ""}}


async def test_patch_that_cannot_be(client: EdgeClient) -> None:
    problem(await client.patch(DOCUMENT, json={}), 422, "invalid-patch")
    problem(await client.patch(DOCUMENT, json={"a": {"b": {}}}), 422, "invalid-patch", "a.b")
    problem(await client.patch(DOCUMENT, json={"_id": "o2"}), 422, "invalid-patch", "_id")
    problem(await client.patch(DOCUMENT, json=[1]), 422, "invalid-document")
    problem(await client.send_json("PATCH", DOCUMENT, '{"a":1,"a":2}'), 400, "malformed-json", "a")
    assert client.intake.appends == []


async def test_delete_has_no_body(client: EdgeClient) -> None:
    accepted(await client.delete(DOCUMENT))
    (write,) = client.intake.writes
    assert (write.kind, write.id, write.body) == (Kind.DELETE, "o1", b"")


async def test_a_batch_is_one_append_and_tells_each_item(client: EdgeClient) -> None:
    response = await client.post(BATCH, json=[{"a": 1}, {"$bad": 1}, {"_id": "x"}, 5, {"_id": 1.5}])
    assert response.status_code == 202
    answer = response.json()
    assert (answer["accepted"], answer["rejected"]) == (2, 3)
    assert [item["index"] for item in answer["items"]] == [0, 1, 2, 3, 4]
    (writes,) = client.intake.appends
    assert [(write.kind, write.id) for write in writes] == [(Kind.INSERT, answer["items"][0]["id"]), (Kind.PUT, "x")]
    assert [item.get("state") for item in answer["items"]] == ["logged", None, "logged", None, None]
    errors = [item["error"] for item in answer["items"] if "error" in item]
    assert [(error["code"], error.get("field")) for error in errors] == [
        ("invalid-document", "$bad"), ("invalid-document", None), ("invalid-id", "_id"),
    ]  # fmt: skip
    assert [decode_receipt(answer["items"][i]["receipt"]).offset for i in (0, 2)] == [0, 1]


async def test_a_batch_as_lines(client: EdgeClient) -> None:
    text = '{"a":1}\n\n{"a":NaN}\r\n{"a":3}\n'
    response = await client.send_json("POST", BATCH, text, content_type="application/x-ndjson")
    assert response.status_code == 202
    assert [item.get("error", {}).get("code") for item in response.json()["items"]] == [None, "malformed-json", None]
    assert len(client.intake.writes) == 2


async def test_batches_that_keep_nothing() -> None:
    client = EdgeClient(max_batch_items=3)
    items = problem(await client.post(BATCH, json=[5, {"$x": 1}]), 422, "nothing-accepted")["items"]
    assert [item["error"]["status"] for item in items] == [422, 422]
    problem(await client.post(BATCH, json=[]), 422, "nothing-accepted")
    problem(await client.post(BATCH, json={"a": 1}), 422, "invalid-document")
    problem(await client.post(BATCH, json=[{}] * 4), 422, "too-many-items")
    problem(await client.send_json("POST", BATCH, '[{"a":1},'), 400, "malformed-json")
    problem(await client.send_json("POST", BATCH, "\n\n", content_type="application/x-ndjson"), 422, "nothing-accepted")
    assert client.intake.appends == []
    assert (await client.post(BATCH, json=[{}] * 3)).json()["accepted"] == 3, "it has no more than it may"


@pytest.mark.parametrize(("method", "path"), WRITES[:4])
@pytest.mark.parametrize(
    ("headers", "text", "status", "code", "field"),
    [
        ({}, "{", 400, "malformed-json", None),
        ({}, "", 400, "malformed-json", None),
        ({}, b"\xff", 400, "malformed-json", None),
        ({"content_type": "text/plain"}, None, 415, "unsupported-media-type", "Content-Type"),
        ({"content_type": "application/json; charset=latin-1"}, None, 415, "unsupported-media-type", "Content-Type"),
        ({"content_type": ""}, None, 415, "unsupported-media-type", "Content-Type"),
        ({"content_encoding": "gzip"}, None, 415, "unsupported-media-type", "Content-Encoding"),
        ({"idempotency_key": ""}, None, 400, "invalid-header", "Idempotency-Key"),
        ({"idempotency_key": "a b"}, None, 400, "invalid-header", "Idempotency-Key"),
        ({"idempotency_key": "x" * 256}, None, 400, "invalid-header", "Idempotency-Key"),
        ({}, "x" * 20_000, 413, "body-too-large", None),
    ],
)
async def test_bad_requests_keep_nothing(
    method: str, path: str, headers: dict[str, str], text: str | bytes | None, status: int, code: str, field: str | None
) -> None:
    client = EdgeClient(max_body_bytes=10_000)
    response = await client.send_json(method, path, text_for(path) if text is None else text, **headers)
    problem(response, status, code, field)
    assert client.intake.appends == []


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_bad_parameters_keep_nothing(client: EdgeClient, method: str, path: str) -> None:
    for query, code, field in (
        ("x=1", "unknown-parameter", "x"), ("ack=yes", "invalid-parameter", "ack"),
        ("ack=db&ack=db", "invalid-parameter", "ack"),
        ("ack=%FF", "invalid-parameter", "query"),
    ):  # fmt: skip
        problem(await client.send_json(method, f"{path}?{query}", text_for(path)), 400, code, field)
    assert client.intake.appends == []


@pytest.mark.parametrize(
    ("database", "collection", "field"),
    [
        ("admin", "a", "database"), ("Local", "a", "database"), ("config", "a", "database"), ("a.b", "c", "database"),
        ("x" * 64, "a", "database"), ("%24a", "a", "database"), ("a%00", "a", "database"), ("a%0A", "a", "database"),
        ("a", "system.users", "collection"), ("a", "%24cmd", "collection"), ("a", "x" * 121, "collection"),
        ("a", "b..c", "collection"), ("a", "b.", "collection"), ("a", ".b", "collection"), ("a", "b%0A", "collection"),
    ],
)  # fmt: skip
async def test_names_that_cannot_be_used(client: EdgeClient, database: str, collection: str, field: str) -> None:
    problem(await client.post(f"/v1/{database}/{collection}", json={}), 422, "invalid-name", field)
    problem(await client.post(f"/v1/{database}/{collection}/batch", json=[{}]), 422, "invalid-name", field)
    problem(await client.get(f"/v1/{database}/{collection}/x"), 422, "invalid-name", field)
    problem(await client.delete(f"/v1/{database}/{collection}/x"), 422, "invalid-name", field)
    assert client.intake.appends == []


async def test_a_name_that_is_taken_is_told_with_all_that_are(client: EdgeClient) -> None:
    told = problem(await client.post("/v1/config/a", json={}), 422, "invalid-name", "database")["detail"]
    assert all(name in told for name in ("admin", "local", "config", *RESERVED_DATABASES))


@pytest.mark.parametrize("id_", ["%7B", "%7B%22$date%22:1%7D", "a%00b", "a%1Fb", "%FF", "x" * 1025])
async def test_ids_in_the_path_that_cannot_be_used(client: EdgeClient, id_: str) -> None:
    for method in ("PUT", "PATCH", "DELETE", "GET"):
        problem(await client.send_json(method, f"{ONE}/{id_}", '{"a":1}'), 422, "invalid-id", "id")
    assert client.intake.appends == []


async def test_batch_is_no_document(client: EdgeClient) -> None:
    for method in ("PUT", "PATCH", "DELETE", "GET"):
        response = await client.send_json(method, BATCH, "{}")
        problem(response, 405, "method-not-allowed")
        assert "POST" in response.headers["allow"]


async def test_a_document_over_the_limit() -> None:
    client = EdgeClient(max_document_bytes=1024)
    large = {"a": "x" * 1024}
    for response in (
        await client.post(ONE, json=large),
        await client.put(DOCUMENT, json=large),
        await client.patch(DOCUMENT, json=large),
    ):
        problem(response, 413, "document-too-large")
    items = (await client.post(BATCH, json=[large, {"a": 1}])).json()["items"]
    assert items[0]["error"]["code"] == "document-too-large"
    assert len(client.intake.writes) == 1


async def raw(
    client: EdgeClient, messages: list[dict[str, Any]], headers: list[tuple[bytes, bytes]]
) -> list[dict[str, Any]]:
    """POST with these ASGI messages; afterwards `messages` holds those that were not asked for."""
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http", "method": "POST", "path": ONE, "raw_path": ONE.encode(), "query_string": b"", "root_path": "",
        "headers": [(b"content-type", b"application/json"), *headers],
    }  # fmt: skip

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await client.app(scope, receive, send)
    return sent


async def test_a_body_over_the_limit_is_not_read_to_its_end() -> None:
    client = EdgeClient(max_body_bytes=2048)
    endless = [{"type": "http.request", "body": b"x" * 1000, "more_body": True} for _ in range(10)]
    sent = await raw(client, endless, [])
    assert (sent[0]["status"], len(endless)) == (413, 7)
    sent = await raw(client, endless, [(b"content-length", b"2049")])
    assert (sent[0]["status"], len(endless)) == (413, 7)


async def test_a_body_in_pieces(client: EdgeClient) -> None:
    pieces = [{"type": "http.request", "body": piece, "more_body": piece != b""} for piece in (b'{"a"', b":1}", b"")]
    sent = await raw(client, pieces, [])
    assert sent[0]["status"] == 202
    assert bson.decode(client.intake.writes[0].body)["a"] == 1


async def test_a_client_that_leaves_in_the_middle_of_its_body_keeps_nothing(client: EdgeClient) -> None:
    messages = [{"type": "http.request", "body": b'{"a":1}', "more_body": True}, {"type": "http.disconnect"}]
    await raw(client, messages, [])
    assert client.intake.appends == []


async def test_only_databases_that_are_served_can_be_named() -> None:
    """A write to another, which MongoDB's user may not touch, would be tried for ever, with all others behind it."""
    client = EdgeClient(databases="shop, test-*")
    for database, status in (("shop", 202), ("test-1", 202), ("shops", 422), ("Shop", 422), ("test", 422)):
        answer = await client.send_json("POST", f"/v1/{database}/orders", "{}")
        assert answer.status_code == status
        assert (await client.get(f"/v1/{database}/orders/none")).status_code == (404 if status == 202 else 422)
    document = problem(await client.send_json("DELETE", "/v1/other/orders/1", ""), 422, "invalid-name", "database")
    assert "shop, test-*" in document["detail"]
    assert {write.namespace for write in client.intake.writes} == {"shop.orders", "test-1.orders"}


async def test_a_client_that_leaves_does_not_cancel_its_append(client: EdgeClient) -> None:
    client.intake.held = asyncio.Event()
    for request in (client.post(ONE, json={"a": 1}), client.get("/api/data")):
        asked = asyncio.create_task(request)
        await settle()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    assert client.intake.appends == []
    client.intake.held.set()
    await client.app.finish()
    assert len(client.intake.appends) == 2


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_an_unknown_outcome_names_the_ids(client: EdgeClient, method: str, path: str) -> None:
    client.intake.failing = OutcomeUnknown("no answer")
    document = problem(await client.send_json(method, path, text_for(path)), 504, "outcome-unknown")
    assert document["detail"] == "no answer"
    assert uuid.UUID(document["id"]) if path in (ONE, BATCH) else document["id"] == "o1"
    document = problem(await client.get("/api/data"), 504, "outcome-unknown")
    assert len(document["ids"]) == 5


async def test_an_intake_that_never_answers_has_an_unknown_outcome() -> None:
    client = EdgeClient(request_timeout_s=-1.0)  # less than no time, with the grace
    client.intake.held = asyncio.Event()
    problem(await client.post(ONE, json={}), 504, "outcome-unknown")
    client.intake.held.set()
    await client.app.finish()


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_who_waits_for_mongodb_holds_no_document(
    client: EdgeClient, method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backlog has it, which is bounded; and what comes again under a known key is in no backlog."""
    held = [0]

    class Held(Write):
        def __new__(cls, *members: Any) -> Held:
            held[0] += 1
            return super().__new__(cls, *members)

        def __del__(self) -> None:
            held[0] -= 1

    await client.send_json(method, path, text_for(path), idempotency_key='"k"')
    client.intake.appends.clear()
    monkeypatch.setattr(writes, "Write", Held)
    client.intake.held_waits = asyncio.Event()
    waiting = asyncio.create_task(
        client.send_json(method, f"{path}?ack=db", text_for(path), idempotency_key='"k"')
    )
    await settle()
    assert len(client.intake.waits) == 1
    assert held == [0]
    client.intake.held_waits.set()
    assert (await waiting).headers["idempotency-replayed"] == "true"


async def test_each_caller_of_a_silent_intake_is_told_when_its_own_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    advance = stop_clock(monkeypatch)
    client = EdgeClient(request_timeout_s=9.0)  # and a second of grace
    client.intake.held = asyncio.Event()
    asked = []
    for until_next_s in (4.0, 4.0, 1.0):
        asked.append(asyncio.create_task(client.post(ONE, json={})))
        await settle()
        await advance(until_next_s)
    # 9, 11, 13, 15 and 19 seconds after the first, with ten for each
    for step_s, told in ((0.0, 0), (2.0, 1), (2.0, 1), (2.0, 2), (4.0, 3)):
        await advance(step_s)
        assert [task.done() for task in asked] == [True] * told + [False] * (3 - told)
    client.intake.held.set()
    await client.app.finish()
    for task in asked:
        problem(task.result(), 504, "outcome-unknown")


@pytest.mark.parametrize(
    ("prefer", "query", "wait_s", "applied"),
    [
        ("wait=5", "", 5.0, "wait=5"),
        ("respond-async, wait=5", "", 5.0, "wait=5"),
        ('WAIT="7"; foo', "", 7.0, "wait=7"),
        ("wait=600", "", 30.0, "wait=30"),
        (None, "?ack=db", 30.0, None),
        ("wait=2", "?ack=db", 2.0, "wait=2"),
    ],
)
@pytest.mark.parametrize(("method", "path"), [WRITES[0], *WRITES[2:]])
async def test_waiting_for_mongodb(
    client: EdgeClient, method: str, path: str, prefer: str | None, query: str, wait_s: float, applied: str | None
) -> None:
    headers = {} if prefer is None else {"prefer": prefer}
    response = await client.send_json(method, path + query, text_for(path), **headers)
    accepted(response, 201, "stored")
    assert client.intake.waits == [wait_s]
    assert response.headers.get("preference-applied") == applied


@pytest.mark.parametrize(
    "prefer", ["wait=", "wait=x", "wait=-1", "wait=1.5", "respond-async", "wait=0", "", "waiting=5"]
)
async def test_preferences_that_say_nothing(client: EdgeClient, prefer: str) -> None:
    accepted(await client.send_json("POST", ONE, "{}", prefer=prefer))
    assert client.intake.waits == []


async def test_a_wait_that_ran_out(client: EdgeClient) -> None:
    client.intake.final = State("logged")
    response = await client.send_json("POST", ONE, "{}", prefer="wait=1")
    accepted(response, 202)
    assert response.headers["preference-applied"] == "wait=1"


async def test_a_wait_that_fails_is_no_failure_of_the_write(client: EdgeClient) -> None:
    for error in (BufferUnavailable(), RuntimeError("boom"), TimeoutError()):
        client.intake.failing_waits = error
        accepted(await client.post(f"{ONE}?ack=db", json={}))
    client.intake.failing_waits, client.intake.final = None, State("unknown")
    assert (await client.post(f"{ONE}?ack=db", json={})).json()["state"] == "logged", "it is durable, whoever forgot it"


async def test_a_write_that_mongodb_refuses_while_we_wait(client: EdgeClient) -> None:
    client.intake.final = State("dead-lettered", "Document failed validation")
    document = problem(await client.put(f"{DOCUMENT}?ack=db", json={}), 422, "rejected-by-mongodb")
    assert document["reason"] == "Document failed validation"
    assert decode_receipt(document["receipt"]).id == "o1"


async def test_waiting_with_a_batch(client: EdgeClient) -> None:
    response = await client.post(f"{BATCH}?ack=db", json=[{}, 5])
    assert response.status_code == 201
    assert response.json()["items"][0]["state"] == "stored"
    client.intake.final = State("logged")
    assert (await client.post(f"{BATCH}?ack=db", json=[{}])).status_code == 202
    client.intake.final = State("dead-lettered", "why")
    items = problem(await client.post(f"{BATCH}?ack=db", json=[{}]), 422, "nothing-accepted")["items"]
    assert (items[0]["state"], items[0]["error"]["reason"]) == ("dead-lettered", "why")


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_an_idempotency_key_keeps_the_same_once(client: EdgeClient, method: str, path: str) -> None:
    first = await client.send_json(method, path, text_for(path), idempotency_key="k1")
    again = await client.send_json(method, path, text_for(path), idempotency_key="k1")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert len(client.intake.appends) == 1


async def test_an_idempotency_key_belongs_to_one_request(client: EdgeClient) -> None:
    key = {"idempotency_key": "k1"}
    first = accepted(await client.send_json("POST", ONE, '{"a":1}', **key))
    problem(await client.send_json("POST", ONE, '{"a":2}', **key), 422, "idempotency-key-reused", "Idempotency-Key")
    problem(await client.send_json("PUT", DOCUMENT, '{"a":1}', **key), 422, "idempotency-key-reused", "Idempotency-Key")
    assert len(client.intake.writes) == 1
    elsewhere = accepted(await client.send_json("POST", "/v1/shop/other", '{"a":1}', **key))
    assert elsewhere["id"] != first["id"]


async def test_an_idempotency_key_makes_the_same_ids_in_every_replica() -> None:
    answers = [await EdgeClient().send_json("POST", BATCH, '[{"a":1},{"a":1}]', idempotency_key="k") for _ in range(2)]
    ids = [[item["id"] for item in answer.json()["items"]] for answer in answers]
    assert ids[0] == ids[1]
    assert len(set(ids[0])) == 2


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("If-None-Match", "*"),
        ("If-Match", '"nope"'),
        ("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("Content-Range", "bytes 0-6/100"),
    ],
)
async def test_what_would_be_kept_against_its_callers_condition_is_refused(
    client: EdgeClient, method: str, path: str, field: str, value: str
) -> None:
    response = await client.send_json(method, path, text_for(path), **{field: value})
    problem(response, 400, "invalid-header", field)
    assert client.intake.appends == []


async def test_a_condition_that_is_for_reads_alone_does_not_stop_a_write(client: EdgeClient) -> None:
    """RFC 9110, section 13.1.3."""
    accepted(await client.put(DOCUMENT, json={}, headers={"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}))


BY_LINES = '[\n{"a":1},\n{"b":2}\n]'  # as an array two documents, as lines only the last


async def test_an_idempotency_key_gives_no_receipt_for_what_another_reading_of_its_body_left_out(
    client: EdgeClient,
) -> None:
    lines = {"content_type": "application/x-ndjson", "idempotency_key": "k1"}
    first = await client.send_json("POST", BATCH, BY_LINES, **lines)
    assert (first.json()["accepted"], first.json()["rejected"]) == (1, 3)
    again = await client.send_json("POST", BATCH, BY_LINES, idempotency_key="k1")
    problem(again, 422, "idempotency-key-reused", "Idempotency-Key")
    assert (await client.send_json("POST", BATCH, BY_LINES, **lines)).json() == first.json()
    assert len(client.intake.writes) == 1


async def test_an_idempotency_key_gives_no_receipt_for_what_other_limits_left_out(client: EdgeClient) -> None:
    body, key = json.dumps([{"a": 1}, {"b": "x" * 100}, {"_id": "c"}]), {"idempotency_key": "k1"}
    strict = EdgeClient(client.intake, max_document_bytes=100)
    first = await strict.send_json("POST", BATCH, body, **key)
    assert (first.json()["accepted"], first.json()["rejected"]) == (2, 1)
    problem(await client.send_json("POST", BATCH, body, **key), 422, "idempotency-key-reused", "Idempotency-Key")
    assert (await strict.send_json("POST", BATCH, body, **key)).json() == first.json()
    assert len(client.intake.writes) == 2


async def test_an_idempotency_key_is_told_the_same_by_every_replica_and_later(client: EdgeClient) -> None:
    """Whatever limits leave what is taken as it is, and however the type is written."""
    other = EdgeClient(client.intake, max_document_bytes=1_000)
    for method, path in WRITES:
        text = '[{"a":1},{"_id":"x"},7]' if path == BATCH else text_for(path)
        key = {"idempotency_key": f"{method} {path}".replace(" ", "-")}
        first = await client.send_json(method, path, text, **key)
        client.clock.now += 3_600
        again = await other.send_json(method, path, text, content_type="Application/JSON; charset=utf-8", **key)
        assert again.headers["idempotency-replayed"] == "true"
        assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert len(client.intake.appends) == len(WRITES)


async def test_an_id_under_an_idempotency_key_belongs_to_one_reading_of_the_body() -> None:
    """Else, with the key forgotten, the second would meet the document of the first, and be taken for a copy of it."""
    body = '[{"x":1},{"a":1},\n{"b":1}\n]'
    ids = []
    for media in ("application/json", "application/x-ndjson"):
        answer = await EdgeClient().send_json("POST", BATCH, body, content_type=media, idempotency_key="k")
        ids += [item.get("id") for item in answer.json()["items"] if item["index"] == 1]
    assert None not in ids
    assert ids[0] != ids[1]


async def test_two_idempotency_keys_are_none(client: EdgeClient) -> None:
    headers = [("content-type", "application/json"), ("idempotency-key", "a"), ("idempotency-key", "b")]
    problem(await client.request("POST", ONE, content="{}", headers=headers), 400, "invalid-header", "Idempotency-Key")
    assert client.intake.appends == []


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_a_full_queue(client: EdgeClient, method: str, path: str) -> None:
    client.intake.failing = QueueFull("full", 12.1)
    for headers in ({}, {"idempotency_key": "k"}, {"prefer": "wait=5"}):
        response = await client.send_json(method, path, text_for(path), **headers)
        problem(response, 503, "queue-full")
        assert response.headers["retry-after"] == "13"
    assert client.intake.waits == []


async def test_numbers_and_text_travel_unharmed(client: EdgeClient) -> None:
    document = {"i": 2**63 - 1, "f": 0.1, "t": "ключ 😀", "e": {}, "n": None, "l": [[], [1]]}
    accepted(await client.post(ONE, json=document))
    stored = bson.decode(client.intake.writes[0].body)
    assert {name: stored[name] for name in document} == json.loads(json.dumps(document))

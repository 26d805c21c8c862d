"""Dead letters over HTTP: looked at, replayed, discarded; one by one, and by the page."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from typing import Any

import bson
import pytest
from edge import EdgeClient, problem

from actors.adapters.clock import settle
from actors.core.dead_letter import DeadLetter
from actors.core.document import Key, Kind, Write, encode_writes
from actors.core.errors import LogUnavailable, OutcomeUnknown, QueueFull
from actors.core.intake import Found, State
from serve_app.dead_letters import opaque

PAGE = "/v1/dead-letters"


def letter(number: int, namespace: str = "shop.orders", **changes: Any) -> DeadLetter:
    body = bson.encode({"_id": "r1", "n": number})
    frame = encode_writes([Write(Kind.PUT, namespace, "r1", body)])
    one = DeadLetter(f"0/{number}-0/0", frame, "too large", 3, 1_700_000_000.0, 1_700_000_001.5 + number)
    return one._replace(**changes)


@pytest.fixture
def client() -> EdgeClient:
    return EdgeClient()


async def pages(client: EdgeClient, method: str, path: str) -> list[dict[str, Any]]:
    """All pages, as a caller goes through them."""
    answers = [(await client.request(method, path)).json()]
    while answers[-1]["next"] is not None:
        answers.append((await client.request(method, f"{path}&after={answers[-1]['next']}")).json())
    return answers


def rest(end: str, size: int) -> dict[str, Any]:
    """What every page says beside what was done: this one looked at all letters there are."""
    return {"scanned": size, "next": None, "end": end, "size": size}


def ids(answers: list[dict[str, Any]]) -> list[str]:
    return [item["id"] for answer in answers for item in answer["items"]]


# Looking


async def test_dead_letters_in_pages(client: EdgeClient) -> None:
    await client.intake.shelf.add([letter(i) for i in range(5)])
    answers = await pages(client, "GET", f"{PAGE}?limit=2")
    assert ids(answers) == [opaque(f"0/{i}-0/0") for i in range(5)]
    assert [answer["scanned"] for answer in answers] == [2, 2, 1]


async def test_letters_that_come_meanwhile_are_on_no_page(client: EdgeClient) -> None:
    await client.intake.shelf.add([letter(i) for i in range(3)])
    first = (await client.get(f"{PAGE}?limit=2")).json()
    await client.intake.shelf.add([letter(7)])
    second = (await client.get(f"{PAGE}?limit=2&after={first['next']}")).json()
    assert ids([first, second]) == [opaque(f"0/{i}-0/0") for i in range(3)]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [0, 1, 2, 3]),
        ("namespace=*", [0, 1, 2, 3]),
        ("namespace=shop.people", [1]),
        ("namespace=shop.people&reason=LARGE", [1]),
        ("reason=e11000", [2]),
        ("since=2023-11-14T22:13:23.5Z", [2, 3]),
        ("before=2023-11-15T00:13:23.500%2B02:00", [0, 1]),
        ("since=2023-11-14t22:13:22z&before=2023-11-14T22:13:23.9Z", [1, 2]),
        ("namespace=none.such", []),
    ],
)
async def test_only_those_that_are_meant(client: EdgeClient, query: str, found: list[int]) -> None:
    await client.intake.shelf.add(
        [letter(0), letter(1, "shop.people"), letter(2, reason="E11000 duplicate key"), letter(3)]
    )
    answer = (await client.get(f"{PAGE}?{query}")).json()
    assert ids([answer]) == [opaque(f"0/{i}-0/0") for i in found]
    assert answer["scanned"] == 4


async def test_a_dead_letter_shows_all_that_is_needed_to_judge_it(client: EdgeClient) -> None:
    one = letter(1)
    await client.intake.shelf.add([one])
    head = {
        "id": opaque(one.id), "namespace": "shop.orders", "document_id": "r1", "kind": "put",
        "reason": "too large", "attempts": 3,
        "accepted_at": "2023-11-14T22:13:20.000Z", "rejected_at": "2023-11-14T22:13:22.500Z",
        "bytes": len(one.write.body),
    }  # fmt: skip
    assert (await client.get(PAGE)).json()["items"] == [head]
    shown = (await client.get(f"{PAGE}/{opaque(one.id)}")).json()
    assert b64decode(shown.pop("body_base64")) == one.write.body
    assert shown == head | {"body": {"_id": "r1", "n": 1}}


@pytest.mark.parametrize(
    ("kind", "body"), [(Kind.PUT, b"\1\2"), (Kind.DELETE, b""), (Kind.PATCH, b"\5\0\0\0\0"), (Kind.INSERT, b"\xff" * 9)]
)
async def test_the_original_bytes_are_given_back_whatever_they_are(client: EdgeClient, kind: Kind, body: bytes) -> None:
    one = letter(1, payload=encode_writes([Write(kind, "shop.orders", "r1", body)]))
    await client.intake.shelf.add([one])
    shown = (await client.get(f"{PAGE}/{opaque(one.id)}")).json()
    assert b64decode(shown["body_base64"]) == body
    assert shown.get("body", "none") == ({} if kind == Kind.PATCH else "none")


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "limit=", "after=%21", "after=", "after=0/1-0/0", "namespace=", "namespace=x",
     "reason=", "since=yesterday", "since=2023-11-14", "since=20231114T000000Z", "before=2023-11-14T22:13:23",
     "before=2023-02-30T00:00:00Z"],
)  # fmt: skip
async def test_pages_that_cannot_be(client: EdgeClient, query: str) -> None:
    for method, path in (("GET", PAGE), ("POST", f"{PAGE}/replay"), ("POST", f"{PAGE}/discard")):
        problem(await client.request(method, f"{path}?{query}"), 400, "invalid-parameter", query.partition("=")[0])


# One of them


async def test_replaying_and_discarding_one(client: EdgeClient) -> None:
    await client.intake.shelf.add([letter(0), letter(1)])
    first, second = map(opaque, client.intake.shelf.letters)
    response = await client.post(f"{PAGE}/{first}/replay")
    assert response.status_code == 202
    assert response.json()["state"] == "logged"
    assert response.headers["location"] == f"/v1/receipts/{response.json()['receipt']}"
    assert client.intake.writes == [letter(0).write]
    response = await client.delete(f"{PAGE}/{second}")
    assert (response.status_code, response.content) == (204, b"")
    assert client.intake.shelf.letters == {}
    for method, path in (
        ("GET", first),
        ("POST", f"{first}/replay"),
        ("DELETE", second),
        ("GET", "%21"),
        ("DELETE", "ключ"),
    ):
        problem(await client.request(method, f"{PAGE}/{path}"), 404, "no-such-dead-letter", "id")


async def test_a_replay_whose_outcome_is_unknown(client: EdgeClient) -> None:
    await client.intake.shelf.add([letter(1)])
    client.intake.failing_append = OutcomeUnknown()
    document = problem(await client.post(f"{PAGE}/{opaque('0/1-0/0')}/replay"), 504, "outcome-unknown")
    assert document["id"] == opaque("0/1-0/0")
    assert list(client.intake.shelf.letters) == ["0/1-0/0"]


# By the page


async def test_replaying_is_of_those_that_are_meant_only_and_in_their_order(client: EdgeClient) -> None:
    await client.intake.shelf.add([letter(i, "shop.people" if i == 2 else "shop.orders") for i in range(6)])
    answers = await pages(client, "POST", f"{PAGE}/replay?namespace=shop.orders&limit=2")
    assert [write.body for write in client.intake.writes] == [letter(i).write.body for i in (0, 1, 3, 4, 5)]
    assert [len(writes) for writes in client.intake.appends] == [2, 2, 1], "one append a page"
    assert list(client.intake.shelf.letters) == [letter(2).id]
    assert [answer["replayed"] for answer in answers] == [2, 2, 1]
    assert sum(answer["scanned"] for answer in answers) == 6


async def test_discarding_is_of_those_that_are_meant_only(client: EdgeClient) -> None:
    await client.intake.shelf.add([letter(i, reason="E11000" if i % 2 else "schema") for i in range(6)])
    answers = await pages(client, "POST", f"{PAGE}/discard?namespace=*&reason=e11000&limit=2")
    assert list(client.intake.shelf.letters) == [letter(i).id for i in (0, 2, 4)]
    assert sum(answer["discarded"] for answer in answers) == 3
    assert client.intake.appends == []


@pytest.mark.parametrize("act", ["replay", "discard"])
async def test_all_has_to_be_said(client: EdgeClient, act: str) -> None:
    await client.intake.shelf.add([letter(0)])
    problem(await client.post(f"{PAGE}/{act}"), 400, "invalid-parameter", "namespace")
    problem(await client.post(f"{PAGE}/{act}?reason=large"), 400, "invalid-parameter", "namespace")
    assert len(client.intake.shelf.letters) == 1
    assert (await client.post(f"{PAGE}/{act}?namespace=*")).status_code == 200
    assert client.intake.shelf.letters == {}


async def test_a_page_tells_what_became_of_its_writes(client: EdgeClient) -> None:
    await client.intake.shelf.add([letter(0), letter(1)])
    client.intake.final = State("dead-lettered", "still too large")
    answer = (await client.post(f"{PAGE}/replay?namespace=*")).json()
    assert answer == {"replayed": 2, "stored": 0, "rejected_again": 2} | rest("2-0", 2)


@pytest.mark.parametrize("path", [f"{opaque('0/0-0/0')}/replay", "replay?namespace=*", "discard?namespace=*"])
async def test_another_sites_page_changes_nothing(client: EdgeClient, path: str) -> None:
    """A browser sends such a POST for any page, without asking us before."""
    await client.intake.shelf.add([letter(0)])
    for name, value in (
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Origin", "http://elsewhere.example"),  # all that a browser says of it to a plain http address
        ("Origin", "null"),
    ):
        problem(await client.post(f"{PAGE}/{path}", headers={name: value}), 403, "cross-site")
    assert list(client.intake.shelf.letters) == [letter(0).id]
    assert client.intake.appends == []
    ours = {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind-a-proxy.example"}
    assert (await client.post(f"{PAGE}/{path}", headers=ours)).is_success
    await client.intake.shelf.add([letter(0)])
    assert (await client.post(f"{PAGE}/{path}", headers={"Origin": str(client.base_url).rstrip("/")})).is_success


async def test_nothing_to_replay_asks_nobody(client: EdgeClient) -> None:
    answer = (await client.post(f"{PAGE}/replay?namespace=*")).json()
    assert answer == {"replayed": 0, "stored": 0, "rejected_again": 0} | rest("0-0", 0)
    assert client.intake.appends == []


@pytest.mark.parametrize("path", [f"{opaque('0/0-0/0')}/replay", "replay?namespace=*"])
async def test_a_letter_stays_until_its_write_is_durable_again(client: EdgeClient, path: str) -> None:
    await client.intake.shelf.add([letter(0)])
    client.intake.held = asyncio.Event()
    replay = asyncio.create_task(client.post(f"{PAGE}/{path}"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert list(client.intake.shelf.letters) == [letter(0).id]
    client.intake.failing_append = QueueFull("full", 2.0)
    client.intake.held.set()
    problem(await replay, 503, "queue-full")
    assert list(client.intake.shelf.letters) == [letter(0).id]


@pytest.mark.parametrize(
    ("path", "status"), [(f"{opaque('0/0-0/0')}/replay", 404), ("replay?namespace=shop.orders", 200)]
)
async def test_a_letter_discarded_while_its_replay_waits_for_its_turn_stays_discarded(path: str, status: int) -> None:
    client = EdgeClient(at_once=1)
    await client.intake.shelf.add([letter(0)])
    client.intake.held = asyncio.Event()
    flood = asyncio.create_task(client.post("/v1/shop/orders", json={}))
    replay = asyncio.create_task(client.post(f"{PAGE}/{path}"))
    await settle()
    assert (await client.delete(f"{PAGE}/{opaque('0/0-0/0')}")).status_code == 204
    client.intake.held.set()
    assert (await flood).status_code == 202
    assert (await replay).status_code == status
    assert len(client.intake.writes) == 1, "that of the flood"


@pytest.mark.parametrize("path", [f"{opaque('0/0-0/0')}/replay", "replay?namespace=*"])
async def test_replayed_and_not_forgotten_is_no_success_and_may_be_repeated(client: EdgeClient, path: str) -> None:
    await client.intake.shelf.add([letter(0)])
    client.intake.failing_forget = LogUnavailable("away")
    problem(await client.post(f"{PAGE}/{path}"), 504, "outcome-unknown")
    client.intake.failing_forget = None
    assert (await client.post(f"{PAGE}/{path}")).status_code in (200, 202)
    assert client.intake.writes == [letter(0).write] * 2, "which MongoDB sees as one"
    assert client.intake.shelf.letters == {}


async def test_a_replayed_document_is_read_anew(client: EdgeClient) -> None:
    one = letter(5)
    client.intake.documents["shop.orders", "r1"] = Found(bson.encode({"_id": "r1", "n": 1}), [], "mongodb")
    assert (await client.get("/v1/shop/orders/r1")).json()["n"] == 1
    await client.intake.shelf.add([one])
    await client.post(f"{PAGE}/replay?namespace=*")
    assert one.write.key == Key("shop.orders", "r1")
    assert (await client.get("/v1/shop/orders/r1")).json()["n"] == 5


async def test_a_replayed_insert_wins_over_what_was_written_under_its_id_since(client: EdgeClient) -> None:
    """As an insert it would meet that document, be taken for a copy of it, and be gone."""
    body = bson.encode({"_id": "r1", "n": 5})
    frame = encode_writes([Write(Kind.INSERT, "shop.orders", "r1", body)])
    await client.intake.shelf.add([letter(5, payload=frame)])
    assert (await client.post(f"{PAGE}/replay?namespace=*")).json()["replayed"] == 1
    assert client.intake.writes == [Write(Kind.PUT, "shop.orders", "r1", body)]

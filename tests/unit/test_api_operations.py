"""Probes, status, receipts, and the pages about the API."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from edge import EdgeClient, problem
from fake_intake import UP, FakeIntake

from actors.core.errors import QueueFull
from actors.core.intake import State
from actors.core.receipt import Receipt
from actors.core.status import summarize
from serve_app.errors import FAULTS
from serve_app.health import MAX_AGE_S, StatusBoard
from serve_app.schemas import Status

RECEIPT = Receipt("0", "5-0", 2, "shop.orders", "o1")


@pytest.fixture
def client() -> EdgeClient:
    return EdgeClient()


@pytest.mark.parametrize("path", ["/healthz", "/livez"])
async def test_a_living_process_asks_nobody(client: EdgeClient, path: str) -> None:
    client.intake.failing = QueueFull()
    response = await client.get(path)
    assert (response.status_code, response.json()) == (200, {"status": "alive"})
    assert client.intake.status_calls == 0


async def test_ready_while_mongodb_is_down(client: EdgeClient) -> None:
    client.intake.up = UP | {"mongodb": "down"}
    response = await client.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "ready", "mongodb": "down", "redis": "up"})


async def test_ready_verbosely(client: EdgeClient) -> None:
    assert (await client.get("/readyz?verbose")).json()["details"] == UP
    problem(await client.get("/readyz?verbose=maybe"), 400, "invalid-parameter", "verbose")
    problem(await client.get("/readyz?loud"), 400, "unknown-parameter", "loud")


async def test_not_ready(client: EdgeClient) -> None:
    client.intake.up = {"ready": False, "mongodb": "up", "redis": "down"}
    document = problem(await client.get("/readyz"), 503, "not-ready")
    assert (document["mongodb"], document["redis"]) == ("up", "down")


async def test_status_as_the_intake_tells_it(client: EdgeClient) -> None:
    assert (await client.get("/v1/status")).json() == UP


async def test_a_status_in_which_nobody_answers_is_one_the_document_describes(client: EdgeClient) -> None:
    client.intake.up = summarize([None], None)
    Status.model_validate((await client.get("/v1/status")).json(), strict=True)


async def test_probes_are_cheap() -> None:
    now = [100.0]
    intake = FakeIntake()
    board = StatusBoard(intake, lambda: now[0])
    assert await asyncio.gather(*(board.read() for _ in range(20))) == [UP] * 20
    now[0] += MAX_AGE_S / 2
    await board.read()
    assert intake.status_calls == 1
    now[0] += MAX_AGE_S
    await board.read()
    assert intake.status_calls == 2


async def test_an_intake_that_cannot_tell_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(FakeIntake):
        async def status(self) -> dict[str, Any]:
            return await asyncio.get_running_loop().create_future()

    class Broken(FakeIntake):
        async def status(self) -> dict[str, Any]:
            raise RuntimeError("boom")

    monkeypatch.setattr("serve_app.health.TIMEOUT_S", 0)
    for intake in (Silent(), Broken()):
        problem(await EdgeClient(intake).get("/readyz"), 503, "not-ready")


async def test_what_an_intake_told_before_it_fell_silent_is_not_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> dict[str, Any]:
        raise QueueFull

    now = [100.0]
    intake = FakeIntake()
    board = StatusBoard(intake, lambda: now[0])
    assert (await board.read())["ready"]
    now[0] += MAX_AGE_S
    monkeypatch.setattr(intake, "status", broken)
    assert not (await board.read())["ready"]


async def test_a_probe_that_is_cancelled_leaves_the_others_their_answer() -> None:
    board = StatusBoard(FakeIntake())
    first, second = asyncio.create_task(board.read()), asyncio.create_task(board.read())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == UP


@pytest.mark.parametrize(
    ("state", "extra"),
    [(State("logged"), {}), (State("stored"), {}), (State("dead-lettered", "why"), {"reason": "why"})],
)
async def test_a_receipt_tells_what_became_of_the_write(
    client: EdgeClient, state: State, extra: dict[str, str]
) -> None:
    client.intake.final = state
    response = await client.get(f"/v1/receipts/{RECEIPT.encode()}")
    assert response.status_code == 200
    assert response.json() == {
        "receipt": RECEIPT.encode(), "id": "o1", "namespace": "shop.orders", "state": state.name, **extra,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["x", "%FF", "ключ", RECEIPT._replace(stream="9").encode(), "x" * 5000])
async def test_no_such_receipt(client: EdgeClient, text: str) -> None:
    problem(await client.get(f"/v1/receipts/{text}"), 404, "no-such-receipt", "receipt")


async def test_the_pages_need_no_network(client: EdgeClient) -> None:
    response = await client.get("/docs")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "<script" not in response.text
    assert "http://" not in response.text
    assert "https://" not in response.text
    document = (await client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    for path in document["paths"]:
        assert path in response.text


@pytest.mark.parametrize("code", FAULTS)
async def test_every_problem_has_its_page(client: EdgeClient, code: str) -> None:
    response = await client.get(f"/problems/{code}")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert FAULTS[code].title in response.text


async def test_no_page_for_no_problem(client: EdgeClient) -> None:
    problem(await client.get("/problems/none"), 404, "not-found", "code")

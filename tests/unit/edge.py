"""The HTTP edge on a fake intake, called in process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
from fake_intake import FakeIntake

from actors.adapters.clock import settle
from serve_app.api import Edge, make_app
from serve_app.limits import EdgeLimits
from serve_app.turns import MOST


class HandSetClock:
    """Monotonic seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class EdgeClient(httpx.AsyncClient):
    """`intake` is what it talks to; `app` may be called as plain ASGI too."""

    def __init__(self, intake: FakeIntake | None = None, at_once: int = MOST, **limits: Any) -> None:
        self.intake = intake or FakeIntake()
        self.clock = HandSetClock()
        self.app: Edge = make_app(self.intake, EdgeLimits(**limits), self.clock, at_once)
        super().__init__(transport=httpx.ASGITransport(app=self.app), base_url="http://localhost")

    async def send_json(self, method: str, path: str, text: str | bytes, **headers: str) -> httpx.Response:
        """`text` as it is, with a JSON Content-Type unless another is given."""
        sent = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.request(method, path, content=text, headers=sent)


async def outlives_its_caller(client: EdgeClient, go_on: asyncio.Event, begun: Callable[[], int]) -> None:
    """One append at a time, each held until `go_on`: the caller of the first leaves, and the next has to wait for it
    all the same. `begun` counts them."""
    gone = asyncio.create_task(client.get("/api/data"))
    await settle()
    gone.cancel()
    await settle()
    assert gone.cancelled()
    next_one = asyncio.create_task(client.post("/v1/shop/orders", json={}))
    await settle()
    assert begun() == 1
    go_on.set()
    assert (await next_one).status_code == 202
    assert begun() == 2


def problem(response: httpx.Response, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """The problem document, after checking what every one must be."""
    document: dict[str, Any] = response.json()
    assert (response.status_code, document["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert document["type"] == f"/problems/{code}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "Traceback" not in response.text
    if field is not None:
        assert document["field"] == field
    if status == 503:
        assert int(response.headers["retry-after"]) >= 1
    return document

"""Bodies that come in pieces, or not at all: what they may hold together, and for how long."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from serve_app.bodies import Bodies
from serve_app.errors import Problem


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


async def test_one_body_may_always_be_as_large_as_one_may_be() -> None:
    bodies = Bodies(max_bytes=100, max_together_bytes=1)
    assert await bodies.read(request(b"x" * 50, b"x" * 50, b""), {}) == b"x" * 100
    with pytest.raises(Problem, match="body-too-large"):
        await bodies.read(request(b"x" * 50, b"x" * 51, b""), {})

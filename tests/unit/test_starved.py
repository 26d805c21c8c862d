"""When there is no memory even to say so: nobody goes on half dead, and nobody is left waiting."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from composed import Service
from edge import EdgeClient
from fake_intake import FakeIntake

from actors import life, outbox
from actors.core.batching import Command, Verb
from actors.core.outcome import Outcome, Report
from actors.outbox import Outbox
from serve_app import health
from serve_app.health import StatusBoard


def no_memory(*_: Any, **__: Any) -> None:
    raise MemoryError


class Ended(BaseException):
    """The process."""


async def test_an_actor_that_cannot_say_why_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(code: int) -> None:
        raise Ended

    async def fail() -> None:
        raise MemoryError

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(life.log, "error", no_memory)
    with pytest.raises(Ended):
        await life.live(fail())


async def test_pieces_whose_reports_cannot_be_joined_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Outbox(1_000, 1 << 20, Service().owns)
    (answer,) = await box.add([Command(Verb.INSERT, "d.c", ["a", "b"], [b"x", b"x"])])
    monkeypatch.setattr(outbox, "join", no_memory)
    for _ in range(2):
        (part,) = box.take(lambda command: 1).parts
        part.answer.set_result(Report.all(Outcome.STORED, 1))
    assert (await asyncio.wait_for(answer, 5)).needs_retry


class Deaf(asyncio.Future[None]):
    """There is no memory to say who is to be told of its end."""

    def add_done_callback(self, *_: Any, **__: Any) -> None:
        no_memory()


async def test_an_append_whose_end_nobody_can_be_told_of_keeps_neither_its_turn_nor_the_way_down() -> None:
    client = EdgeClient(at_once=1)
    appends = client.app._appends
    with pytest.raises(MemoryError):
        await appends.own(Deaf)
    assert (await client.post("/v1/shop/orders", json={})).status_code == 202
    await asyncio.wait_for(appends.finish(), 5)


async def test_a_status_that_could_not_be_asked_for_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    intake, now = FakeIntake(), [0.0]
    board = StatusBoard(intake, lambda: now[0])
    with monkeypatch.context() as starved:
        starved.setattr(intake, "status", no_memory)
        starved.setattr(health.logger, "warning", no_memory)
        with pytest.raises(MemoryError):
            await board.read()
    now[0] = 10.0
    assert (await board.read())["ready"]

"""Whoever asks for a receipt, or waits for MongoDB, is told what is so: across refusals, late answers and restarts."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import bson
import pytest
from composed import NAMESPACE, ChoosyStore, Service, insert, outlives, put
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.calls import ActorAway, Remote
from actors.core.batching import Command
from actors.core.document import Write
from actors.core.intake import State
from actors.core.outcome import Outcome, Report
from actors.core.receipt import Receipt
from actors.remote_intake import RemoteIntake

WRITES = ["new", "new refused", "put", "put", "put refused"]
QUESTIONS = ["ask", "ask", "wait", "wait"]
EVENTS = ["time passes", "time passes", "answers are late", "late answers arrive", "the buffer dies"]


class Witnessed(ChoosyStore):
    """It remembers which writes it has stored, by their numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.hold: asyncio.Event = asyncio.Event()
        self.hold.set()
        self.stored: dict[str, int] = {}  # id -> the newest

    def _apply(self, command: Command) -> Report:
        report = super()._apply(command)
        for id_, body, outcome in zip(command.ids, command.bodies, report.outcomes, strict=True):
            if outcome == Outcome.STORED:
                self.stored[id_] = bson.decode(body)["by"]
        return report


class Direct:
    """Calls to whichever buffer lives; one that dies answers none."""

    name = "buffer"

    def __init__(self, service: Service) -> None:
        self._service = service
        self.death = asyncio.Event()

    async def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        call = asyncio.create_task(getattr(self._service.buffer, method)(*arguments))
        if not await outlives(call, self.death):
            call.cancel()
            raise ActorAway("killed", began=True)
        return call.result()


class Story:
    def __init__(self) -> None:
        self.service = Service()
        self.service.store = self.store = Witnessed()
        self.service.new_writer()
        self.buffer = Direct(self.service)
        self.intake = RemoteIntake(
            [cast(Remote, self.buffer)], [self.service.log.stream], cast(Remote, self.buffer), timeout_s=5.0
        )
        self.receipts: list[Receipt] = []
        self.questions: list[tuple[int, bool, asyncio.Task[list[State]]]] = []

    async def tell(self, events: list[tuple[str, int]]) -> None:
        await self.service.start()
        try:
            for event, at in [*events, ("late answers arrive", 0), ("time passes", 0), ("time passes", 0)]:
                await self.happens(event, at)
                self.judge()
            assert not self.questions, "somebody was never told"
        finally:
            for _, _, task in self.questions:
                task.cancel()
            await self.service.stop()

    async def happens(self, event: str, at: int) -> None:
        number = len(self.receipts)
        match event:
            case "new" | "new refused":
                await self.keep(insert(f"new{number}", by=number, **refused(event)))
            case "put" | "put refused":
                await self.keep(put("a", by=number, **refused(event)))
            case "ask" | "wait" if self.receipts:
                which = at % number
                receipt = self.receipts[which]
                asked = self.intake.wait([receipt], 60.0) if event == "wait" else self.ask(receipt)
                self.questions.append((which, event == "wait", asyncio.create_task(asked)))
            case "time passes":
                await self.service.clock.advance(0.3)
            case "answers are late":
                self.store.hold.clear()
            case "late answers arrive":
                self.store.hold.set()
            case "the buffer dies":
                death, self.buffer.death = self.buffer.death, asyncio.Event()
                await self.service.restart_buffer()
                death.set()
        await self.service.clock.advance(0.0)

    async def keep(self, write: Write) -> None:
        kept = await self.service.keep(write)
        self.receipts.append(Receipt(self.service.log.stream, kept.position, kept.first, NAMESPACE, write.id))

    async def ask(self, receipt: Receipt) -> list[State]:
        return [await self.intake.state(receipt)]

    def judge(self) -> None:
        for question in [question for question in self.questions if question[2].done()]:
            self.questions.remove(question)
            which, waited, task = question
            receipt, (state,) = self.receipts[which], task.result()
            letter = self.service.log.shelf.letters.get(f"{receipt.stream}/{receipt.position}/{receipt.offset}")
            match state.name:
                case "stored":
                    assert letter is None, "a dead letter told to be stored"
                    assert self.store.stored.get(receipt.id, -1) >= which, "stored before it is, or what replaced it"
                case "dead-lettered":
                    assert letter is not None, "no such letter"
                    assert letter.reason == state.reason
                case "logged":
                    assert not waited, "whoever waits was told too early"
                    assert receipt.position in self.service.log.entries, "gone from the log, and told to be in it"
                case other:
                    pytest.fail(f"what was accepted is {other}")


def refused(event: str) -> dict[str, bool]:
    return {"refused": True} if event.endswith("refused") else {}


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(WRITES + QUESTIONS + EVENTS), st.integers(0, 9)), min_size=4, max_size=18))
def test_what_is_told_of_a_write_is_so(events: list[tuple[str, int]]) -> None:
    yield_to_others = asyncio.sleep
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(asyncio, "sleep", lambda delay: yield_to_others(0))
        asyncio.run(Story().tell(events))

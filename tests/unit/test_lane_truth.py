"""A lane to a buffer of which calls are lost in every way, and which dies: what each caller hears is so, what is kept
is kept once, and in the order asked."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from composed import Service, keyed, put
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_clock import stop_clock

from actors.calls import ActorAway, Remote
from actors.core.document import decode_writes, encode_writes
from actors.core.errors import Draining, OutcomeUnknown, SpillwayError
from actors.core.ports import KeyedAnswer
from actors.core.position import order
from actors.lane import Lane

TIMEOUT_S = 5.0
EVENTS = ["ask", "ask", "ask", "ask under a key", "a caller leaves", "a moment passes", "a second passes"]
CALLS = [
    "answered",
    "lost on its way",
    "nobody there",
    "nobody there",
    "answer lost",
    "answer lost",
    "refused",
    "refused",
    "outcome unknown",
    "hangs, and is not done",
    "hangs, and is done",
    "the buffer dies before",
    "the buffer dies before",
    "the buffer dies behind",
    "the buffer dies behind",
    "the log does not answer",
    "the log is late",
]


class Unsteady:
    """The real buffer, and what becomes of the calls to it, one after the other; then all are answered."""

    name = "buffer"

    def __init__(self, service: Service, fates: list[str]) -> None:
        self._service = service
        self._fates = fates

    async def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        fate = self._fates.pop(0) if self._fates else "answered"
        match fate:
            case "nobody there":
                raise ActorAway(fate)
            case "refused":
                raise Draining(fate, 1.0)
            case "lost on its way":
                raise ActorAway(fate, began=True)
            case "hangs, and is not done":
                await hang(timeout_s)
            case "the buffer dies before":
                await self._restart()
                raise ActorAway(fate, began=True)
            case "the log does not answer":
                self._service.log.faults.plan("append reply", OutcomeUnknown(fate))
            case "the log is late":
                self._service.log.faults.plan("append late", OutcomeUnknown(fate))
        kept = await self._service.buffer.append(*arguments)
        match fate:
            case "answer lost":
                raise ActorAway(fate, began=True)
            case "outcome unknown":
                raise OutcomeUnknown(fate, 1.0)
            case "hangs, and is done":
                await hang(timeout_s)
            case "the buffer dies behind":
                await self._restart()
                raise ActorAway(fate, began=True)
        return kept

    async def _restart(self) -> None:
        await self._service.kill_buffer()
        self._service.new_buffer()
        await self._service.buffer.open()
        self._service.buffer_task = asyncio.create_task(self._service.buffer.run())


async def hang(timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.Event().wait()
    except TimeoutError:
        raise ActorAway("hung", began=True) from None


async def tell(events: list[str], fates: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    service = await Service().start()
    pass_for_the_lane = stop_clock(monkeypatch)

    async def advance(seconds: float) -> None:
        await service.clock.advance(seconds)
        await pass_for_the_lane(seconds)
        service.log.land()

    lane = Lane(cast(Remote, Unsteady(service, fates)), TIMEOUT_S)
    asked: list[asyncio.Future[Any]] = []
    try:
        for event in events:
            match event:
                case "ask":
                    write = put(f"{len(asked)}")
                    asked.append(lane.append(encode_writes([write]), 1, lambda position, first: (position, first)))
                case "ask under a key":
                    asked.append(lane.append_keyed(keyed(f"key{len(asked)}", put(f"{len(asked)}")), 1))
                case "a caller leaves" if asked:
                    asked[-1].cancel()
                case "a moment passes":
                    await advance(0.1)
                case "a second passes":
                    await advance(1.0)
        for _ in range(25):  # each waits in line for its time at most, and then for that of who came last
            await advance(0.5)
        judge(service, asked)
    finally:
        await service.stop()


def judge(service: Service, asked: list[asyncio.Future[Any]]) -> None:
    log = {position: decode_writes(payload) for position, payload in service.log.history.items()}
    kept = [write.id for writes in log.values() for write in writes]
    assert len(kept) == len(set(kept)), "kept a second time"
    places: list[Any] = []
    for number, answer in enumerate(asked):
        assert answer.done(), "a caller was never answered"
        if answer.cancelled() or isinstance(answer.exception(), OutcomeUnknown):
            continue
        if isinstance(answer.exception(), SpillwayError):
            assert f"{number}" not in kept, "told as surely not kept, and kept"
            continue
        told = answer.result()
        position, offset = (told.position.partition("/")[2], 0) if isinstance(told, KeyedAnswer) else told
        assert log[position][offset].id == f"{number}", "told of a place where another write stands"
        if not isinstance(told, KeyedAnswer):  # these are behind the plain ones of their call
            places.append((order(position), offset))
    assert places == sorted(places), "kept in another order than they were asked"


@settings(max_examples=400)
@given(
    st.lists(st.sampled_from(EVENTS), min_size=3, max_size=16), st.lists(st.sampled_from(CALLS), min_size=1, max_size=8)
)
def test_what_a_caller_hears_is_so(events: list[str], fates: list[str]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        asyncio.run(tell(events, fates, monkeypatch))

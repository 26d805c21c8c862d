"""How many requests a replica works on at once, and what becomes of the others."""

from __future__ import annotations

import asyncio

import pytest
from edge import EdgeClient, outlives_its_caller, problem
from loop_clock import stop_clock

from actors.adapters.clock import settle
from serve_app.deadlines import Deadlines
from serve_app.errors import Problem
from serve_app.turns import Turns


class Hands:
    """Requests with numbers, and which of them have had their turn."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.came: list[int] = []

    async def ask(self, number: int, size: int = 0) -> asyncio.Task[None]:
        async def take() -> None:
            await self.turns.take(size)
            self.came.append(number)

        task = asyncio.create_task(take())
        await settle()
        return task


async def test_so_many_at_once_and_the_others_in_the_order_they_came() -> None:
    hands = Hands(Turns(5.0, most=2))
    for number in range(5):
        await hands.ask(number)
    assert hands.came == [0, 1]
    for expected in ([0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]):
        hands.turns.give_back()
        await hands.ask(99)  # whoever comes now is last
        assert [number for number in hands.came if number != 99] == expected
    assert hands.came == [0, 1, 2, 3, 4]


async def test_whoever_leaves_takes_no_turn_along() -> None:
    """Cancelled while it waits, in the very moment in which its turn comes, or when its time is up just then."""
    hands = Hands(Turns(5.0, most=1))
    await hands.ask(0)
    waiting, called, third = [await hands.ask(number) for number in (1, 2, 3)]
    waiting.cancel()
    await settle()
    hands.turns.give_back()
    called.cancel()
    await settle()
    assert hands.came == [0, 3]
    assert third.done()
    hands.turns.give_back()
    await hands.ask(4)
    assert hands.came == [0, 3, 4]
    await hands.ask(5)
    assert hands.came == [0, 3, 4], "one at a time, still"


async def test_a_turn_that_does_not_come_in_time_is_a_clear_no(monkeypatch: pytest.MonkeyPatch) -> None:
    advance = stop_clock(monkeypatch)
    hands = Hands(Turns(5.0, most=1))
    await hands.ask(0)
    early = await hands.ask(1)
    await advance(3.0)
    late = await hands.ask(2)
    await advance(1.9)
    assert not early.done()
    await advance(0.2)
    with pytest.raises(Problem, match="within 5 s") as refused:
        early.result()
    assert (refused.value.code, refused.value.status, refused.value.retry_after) == ("overloaded", 503, 1)
    assert not late.done()
    await advance(3.0)
    with pytest.raises(Problem):
        late.result()
    hands.turns.give_back()
    await hands.ask(3)
    after_a_rest = await hands.ask(4)
    await advance(5.2)
    with pytest.raises(Problem):
        after_a_rest.result()
    assert hands.came == [0, 3]


async def test_a_request_told_that_its_time_is_up_and_cancelled_at_once_gives_nothing_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    advance = stop_clock(monkeypatch)
    hands = Hands(Turns(5.0, most=1))
    await hands.ask(0)
    waiting = await hands.ask(1)
    loop = asyncio.get_running_loop()
    loop.call_at(loop.time() + 5.5, waiting.cancel)  # in the same turn of the loop, before the request hears it
    await advance(6.0)
    assert waiting.cancelled()
    await hands.ask(2)
    assert hands.came == [0]


def without_memory_for_a_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    def call_at(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(asyncio.get_running_loop(), "call_at", call_at)


async def test_a_request_for_whose_time_limit_there_is_no_memory_takes_no_turn_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hands = Hands(Turns(5.0, most=1, max_waiting_bytes=100))
    await hands.ask(0)
    with monkeypatch.context() as starved:
        without_memory_for_a_timer(starved)
        failed = await hands.ask(1, 100)
    assert isinstance(failed.exception(), MemoryError)
    await hands.ask(2, 100)
    for _ in range(2):
        hands.turns.give_back()
        await settle()
    await hands.ask(3)
    assert hands.came == [0, 2, 3]


async def test_a_time_limit_that_lacked_memory_for_its_timer_is_kept_when_the_next_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else no request of the replica would have one any more."""
    advance = stop_clock(monkeypatch)
    deadlines, loop = Deadlines(5.0), asyncio.get_running_loop()
    first, second, third = (loop.create_future() for _ in range(3))
    deadlines.begin(first)
    await advance(2.0)
    deadlines.begin(second)
    with monkeypatch.context() as starved:
        without_memory_for_a_timer(starved)
        await advance(3.2)
    deadlines.begin(third)
    assert [waiter.done() for waiter in (first, second, third)] == [True, False, False]
    await advance(5.2)
    assert all(isinstance(waiter.exception(), TimeoutError) for waiter in (first, second, third))


async def test_a_waiter_that_could_not_be_told_for_want_of_memory_is_told_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Starved(asyncio.Future[None]):
        is_starved = True

        def set_exception(self, error: type | BaseException, /) -> None:
            if self.is_starved:
                raise MemoryError
            super().set_exception(error)

    advance = stop_clock(monkeypatch)
    deadlines, waiter = Deadlines(5.0), Starved()
    deadlines.begin(waiter)
    await advance(5.2)
    waiter.is_starved = False
    deadlines.begin(asyncio.get_running_loop().create_future())
    assert isinstance(waiter.exception(), TimeoutError)


async def test_what_waits_is_bounded_in_bytes() -> None:
    hands = Hands(Turns(5.0, most=1, max_waiting_bytes=100))
    await hands.ask(0, 1_000)  # it does not wait
    await hands.ask(1, 60)
    refused = await hands.ask(2, 41)
    with pytest.raises(Problem, match="bytes"):
        refused.result()
    hands.turns.give_back()
    await hands.ask(3, 100)
    hands.turns.give_back()
    await settle()
    assert hands.came == [0, 1, 3]


async def test_a_request_that_waits_for_its_turn_holds_the_bytes_of_its_document() -> None:
    client = EdgeClient(at_once=1)
    client.app._appends._turns._room_bytes = 500  # of which each write takes some for itself
    client.intake.held = asyncio.Event()
    first = asyncio.create_task(client.post("/v1/shop/orders", json={"text": "x" * 1_000}))  # it does not wait
    await settle()
    refused = await client.post("/v1/shop/orders", json={"text": "x" * 500})
    assert "Too many bytes" in problem(refused, 503, "overloaded")["detail"]
    small = asyncio.create_task(client.post("/v1/shop/orders", json={}))
    await settle()
    client.intake.held.set()
    assert [answer.status_code for answer in await asyncio.gather(first, small)] == [202, 202]


async def test_a_replica_works_on_no_more_requests_at_once() -> None:
    """The others have not even made their documents: those come, with their ids and times, when it is their turn."""
    client = EdgeClient(at_once=3)
    client.intake.held = asyncio.Event()
    posted = [asyncio.create_task(client.post("/v1/shop/orders", json={"n": n})) for n in range(2)]
    got = [asyncio.create_task(client.get("/api/data")) for _ in range(4)]
    await settle()
    assert client.intake.begun == 3
    client.intake.held.set()
    assert [answer.status_code for answer in await asyncio.gather(*posted, *got)] == [202] * 2 + [200] * 4
    assert client.intake.begun == 6


async def test_a_turn_is_given_back_before_the_wait_for_mongodb_and_after_a_failure() -> None:
    client = EdgeClient(at_once=1)
    client.intake.held_waits = asyncio.Event()
    waiting = asyncio.create_task(client.post("/v1/shop/orders?ack=db", json={}))
    await settle()
    assert client.intake.waits
    assert (await client.get("/api/data")).status_code == 200
    client.intake.failing = RuntimeError("broken")
    for _ in range(3):
        problem(await client.get("/api/data"), 500, "internal")
        problem(await client.post("/v1/shop/orders", json={}), 500, "internal")
    client.intake.failing = None
    assert (await client.post("/v1/shop/orders", json={})).status_code == 202
    client.intake.held_waits.set()
    assert (await waiting).status_code == 201


async def test_an_append_has_its_turn_until_it_ends_although_its_caller_has_gone() -> None:
    client = EdgeClient(at_once=1)
    client.intake.held = asyncio.Event()
    await outlives_its_caller(client, client.intake.held, lambda: client.intake.begun)

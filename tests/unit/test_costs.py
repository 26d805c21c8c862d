"""Where bytes count: what a writer pays for a command, and how large one may become."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from composed import LANES, LIMIT, NAMESPACE, OPERATION_S, Service, answer, commands

from actors.adapters.clock import ManualClock, settle
from actors.budget import Budget
from actors.core.batching import Command, Verb
from actors.core.errors import CommandFailed, CommandNotSent, CommandUnknown
from actors.core.outcome import Outcome
from actors.core.pacing import SECOND_NS
from actors.outbox import Outbox
from actors.writer import Writer

KIB = 1024


async def started(max_bytes: int = 4 * KIB) -> Service:
    """A service in which each KiB counts as one command."""
    service = Service(counted=())
    service.budget = Budget(LIMIT, LANES, OPERATION_S, service.clock, KIB, max_bytes)
    service.writer = Writer(
        service.store,
        Outbox(1_000, max_bytes, service.owns, cuts=True),
        service.budget,
        service.tenure,
        service.clock,
        service.telemetry,
        lanes=LANES,
    )
    await service.start_writer()
    await service.clock.advance(2.1)
    return service


def of(index: int, size: int) -> list[Command]:
    return [Command(Verb.INSERT, f"d.c{index}", ["x"], [b"x" * size])]


async def test_a_large_command_leaves_room_for_as_many_as_it_costs() -> None:
    service = await started()
    tasks = [asyncio.create_task(service.writer.write(of(i, size))) for i, size in enumerate([3 * KIB, 1, 3 * KIB + 1])]
    await service.clock.advance(0.5)
    first, second, third = (at for at, verb, _ in service.store.commands if verb == "store")
    pace_ns = SECOND_NS // (LIMIT - LANES * 4)
    assert second - first == (3 - 1) * pace_ns  # the first slot of a large command is taken one pace ahead of the rest
    assert third - first == (3 + 1) * pace_ns
    assert all(answer(task) for task in tasks)
    await service.stop()


async def test_all_slots_of_a_large_command_come_back_whatever_becomes_of_it() -> None:
    service = await started()
    for error in (None, CommandFailed("not primary"), CommandNotSent("away"), CommandUnknown("lost")):
        if error:
            service.store.faults.plan("store", error)
        task = asyncio.create_task(service.writer.write(of(0, 4 * KIB)))
        await service.clock.advance(OPERATION_S + 3.0)
        assert answer(task)[0].outcomes == bytes([Outcome.RETRY if error else Outcome.STORED])
        assert len(service.budget._ring._free_at) == LIMIT - LANES * 4, error
    await service.stop()


async def test_a_large_command_waits_out_a_mongodb_that_goes_away_while_it_waits_for_its_slots() -> None:
    service = await started()
    service.store.hold = asyncio.Event()
    first = asyncio.create_task(service.writer.write(of(0, 4 * KIB)))
    await settle()
    second = asyncio.create_task(service.writer.write(of(1, 4 * KIB)))
    await service.clock.advance(0.05)  # it has one slot of its four
    service.store.faults.plan("store reply", CommandNotSent("away"))
    service.store.faults.plan("probe", *[CommandNotSent("away")] * 3)
    service.store.hold.set()
    await service.clock.advance(0.3)
    assert answer(first)[0].outcomes == bytes([Outcome.RETRY])
    assert service.sent == [("store", 1)]
    await service.clock.advance(1.0)
    assert answer(second)[0].outcomes == bytes([Outcome.STORED])
    await service.clock.advance(1.0)
    assert len(service.budget._ring._free_at) == LIMIT - LANES * 4
    await service.stop()


@pytest.mark.parametrize("end", [Budget.complete, Budget.unsent])
async def test_who_waits_because_all_slots_are_out_goes_on_when_they_are_back(
    end: Callable[[Budget, int], None],
) -> None:
    clock = ManualClock()
    budget = Budget(LANES + 3, LANES, OPERATION_S, clock)
    await budget.take(lambda: True, 2)
    waiting = asyncio.create_task(budget.take(lambda: True, 2))
    await clock.advance(10.0)
    assert not waiting.done()
    end(budget, 2)
    await clock.advance(1.0)
    assert waiting.done()


async def test_what_is_larger_than_a_command_may_be_leaves_in_pieces() -> None:
    service = await started()
    task = asyncio.create_task(service.writer.write(commands(*"abcdefg", body=b"x" * (KIB + 512))))
    service.store.poison = {"e": "bad"}
    await service.clock.advance(1.0)
    assert [writes for verb, writes in service.sent if verb == "store"] == [2, 2, 2, 1]
    report = answer(task)[0]
    assert [i for i, outcome in enumerate(report.outcomes) if outcome == Outcome.REJECTED] == [4]
    assert report.reasons == {4: "bad"}
    assert (NAMESPACE, "g") in service.store.documents
    await service.stop()


async def test_no_piece_is_empty_where_each_write_alone_is_larger_than_a_command_may_be() -> None:
    service = await started()
    large = Command(Verb.INSERT, NAMESPACE, ["a", "b"], [b"x" * 5 * KIB] * 2)
    task = asyncio.create_task(service.writer.write([large]))
    await service.clock.advance(1.0)
    assert service.sent == [("store", 1), ("store", 1)]
    assert answer(task)[0].outcomes == bytes([Outcome.STORED] * 2)
    await service.stop()


async def test_a_write_dearer_than_a_second_holds_is_sent_all_the_same() -> None:
    """It was accepted when bytes did not count, or a command could be larger."""
    service = await started()
    task = asyncio.create_task(service.writer.write(of(0, 200 * KIB)))
    await service.clock.advance(3.0)
    assert answer(task)[0].outcomes == bytes([Outcome.STORED])
    assert len(service.budget._ring._free_at) == LIMIT - LANES * 4
    await service.stop()

"""Commands that end without an answer again and again become smaller, and large again afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from composed import NAMESPACE, OPERATION_S, Service, commands, insert, worst_window

from actors.adapters.memory import MemoryStore
from actors.core.batching import Command, Verb
from actors.core.doubts import NO_LIMIT, Doubts
from actors.core.errors import CommandTimedOut, CommandUnknown, SpillwayError
from actors.core.outcome import Outcome, Report
from actors.core.pacing import SECOND_NS


class Slow(MemoryStore):
    """Does not manage more than `manages` writes in time; what it has not managed it has not done."""

    manages = 1 << 30
    answers: SpillwayError = CommandUnknown("no answer in time")

    async def store(self, command: Command) -> Report:
        if len(command.ids) > self.manages:
            self._note("store", len(command.ids))
            raise self.answers
        return await super().store(command)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    one = Service()
    one.store = Slow(one.clock)
    one.new_writer()
    one.new_buffer()
    await one.start()
    yield one
    await one.stop()


async def test_a_batch_too_slow_as_a_whole_gets_through_in_pieces(service: Service) -> None:
    service.store.manages = 20  # type: ignore[attr-defined]
    await service.keep(*(insert(f"id{i}") for i in range(64)))
    await service.clock.advance(6 * (OPERATION_S + 2.0))
    assert len(service.store.documents) == 64
    assert set(service.store.applied.values()) == {1}
    sizes = [writes for verb, writes in service.sent if verb == "store"]
    assert sizes[:3] == [64, 64, 32], "the first may have been an accident"
    assert 0 < max(sizes[-2:]) <= 20
    assert worst_window([at for at, _, _ in service.store.commands]) <= 96
    assert service.log.entries == {}


async def test_a_batch_that_the_server_ends_itself_gets_through_in_pieces_without_a_pause(service: Service) -> None:
    """It has answered: nothing goes on there, and the gate has no reason to close."""
    service.store.manages = 20  # type: ignore[attr-defined]
    service.store.answers = CommandTimedOut("operation exceeded time limit")  # type: ignore[attr-defined]
    await service.keep(*(insert(f"id{i}") for i in range(64)))
    await service.clock.advance(3.0)
    assert len(service.store.documents) == 64
    sizes = [writes for verb, writes in service.sent if verb == "store"]
    assert sizes[:3] == [64, 64, 32], "the first may have been an accident"
    assert 0 < max(sizes[-2:]) <= 20
    assert service.writer.stats()["mongodb"] == "up"
    ended = [writes for writes in sizes if writes > 20]
    assert service.writer.stats()["documents"] == {NAMESPACE: 64}
    assert service.budget.gauge.worst >= len(ended), "what was ended has been executed: it counts"
    assert worst_window([at for at, _, _ in service.store.commands]) <= 96
    assert service.log.entries == {}


async def test_between_two_tries_the_gate_stays_closed_as_after_any_unknown_outcome(service: Service) -> None:
    service.store.manages = 20  # type: ignore[attr-defined]
    await service.keep(*(insert(f"id{i}") for i in range(64)))
    await service.clock.advance(6 * (OPERATION_S + 2.0))
    failed = [at for at, verb, writes in service.store.commands if verb == "store" and writes > 20]
    assert len(failed) >= 3
    for at in failed:
        after = [later for later, _, _ in service.store.commands if later > at]
        assert min(after) >= at + int(OPERATION_S * SECOND_NS)


async def test_after_a_while_commands_are_whole_again(service: Service) -> None:
    service.store.manages = 20  # type: ignore[attr-defined]
    await service.keep(*(insert(f"id{i}") for i in range(64)))
    await service.clock.advance(6 * (OPERATION_S + 2.0))
    service.store.manages = 1 << 30  # type: ignore[attr-defined]
    await service.clock.advance(13 * OPERATION_S)
    await service.keep(*(insert(f"later{i}") for i in range(64)))
    await service.clock.advance(1.0)
    assert service.sent[-1] == ("store", 64)


async def test_one_crash_makes_no_command_smaller_however_many_were_under_way(service: Service) -> None:
    service.store.faults.plan("store reply", *[CommandUnknown("connection closed")] * 3)
    held = service.store.hold = asyncio.Event()
    for i in range(3):
        service.tasks.add(asyncio.create_task(service.writer.write(commands(*(f"{i}-{n}" for n in range(8))))))
        await service.clock.advance(0.1)
    service.store.hold = None
    held.set()
    await service.clock.advance(2 * OPERATION_S + 2.0)
    again = asyncio.create_task(service.writer.write(commands(*(f"again{n}" for n in range(8)))))
    service.tasks.add(again)
    await service.clock.advance(1.0)
    assert again.result() == [Report.all(Outcome.STORED, 8)._replace(grown=0)]
    assert service.sent[-1] == ("store", 8)


def command(count: int, verb: Verb = Verb.INSERT) -> Command:
    return Command(verb, NAMESPACE, [str(i) for i in range(count)], [b""] * count)


def test_each_cause_halves_down_to_one_write_and_only_for_its_kind() -> None:
    doubts = Doubts(operation_s=1.0)
    allowed = []
    for now in range(5):
        for began_ns in (now, now, now - 1):  # all of them began before the first of them ended
            doubts.note(command(min(8, doubts.most(command(1), now))), began_ns, now)
        allowed.append(doubts.most(command(1), now))
    assert allowed == [NO_LIMIT, 4, 2, 1, 1]
    assert doubts.most(command(1, Verb.UPDATE), 5) == NO_LIMIT
    assert doubts.most(command(1), 4 + 12 * SECOND_NS - 1) == 1
    later = 4 + 12 * SECOND_NS
    assert doubts.most(command(1), later) == NO_LIMIT
    doubts.note(command(8), 9, later)
    assert doubts.most(command(1), later) == NO_LIMIT, "long ago is no repetition"


def test_the_smaller_of_two_limits_counts_for_updates() -> None:
    doubts = Doubts(operation_s=1.0)
    assert doubts.most(command(8, Verb.UPDATE), 0, update_limit=20) == 20
    assert doubts.most(command(8), 0, update_limit=20) == NO_LIMIT
    for began_ns in range(2):
        doubts.note(command(8, Verb.UPDATE), began_ns, 0)
    assert doubts.most(command(8, Verb.UPDATE), 0, update_limit=20) == 4
    assert doubts.most(command(8, Verb.UPDATE), 0, update_limit=3) == 3

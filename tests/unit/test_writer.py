"""The one place from which commands leave for MongoDB."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from composed import LANES, LIMIT, NAMESPACE, OPERATION_S, Service, answer, commands, end, worst_window

from actors.adapters.clock import ManualClock, settle
from actors.adapters.memory import MemoryLease
from actors.census import Census
from actors.core.batching import Command, Origin, Verb
from actors.core.errors import (
    AnswerTooLarge,
    CommandFailed,
    CommandForbidden,
    CommandNotSent,
    CommandRefused,
    CommandTimedOut,
    CommandUnknown,
    DatabaseUnavailable,
    Fenced,
    LogUnavailable,
    SpillwayError,
)
from actors.core.outcome import Outcome, Report
from actors.core.pacing import SECOND_NS
from actors.core.ports import Grant
from actors.tenure import Tenure


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    one = Service()
    await one.start_writer()
    await one.clock.advance(1.1)
    yield one
    await one.stop()


def write(service: Service, some: list[Command]) -> asyncio.Task[list[Report]]:
    task = asyncio.create_task(service.writer.write(some))
    service.tasks.add(task)
    return task


def find(service: Service, *ids: str, namespace: str = NAMESPACE) -> asyncio.Task[list[bytes | AnswerTooLarge | None]]:
    task = asyncio.create_task(service.writer.find(namespace, ids))
    service.tasks.add(task)
    return task


def outcomes(report: Report) -> list[Outcome]:
    return [Outcome(outcome) for outcome in report.outcomes]


# Merging


async def test_what_waits_for_one_verb_and_collection_leaves_together(service: Service) -> None:
    write(service, commands("first"))
    await settle()
    service.store.poison = {"c": "bad"}
    waiting = [write(service, commands("a", "b")), write(service, commands("c")), write(service, commands("d"))]
    other = write(service, commands("a", verb=Verb.DELETE))
    await service.clock.advance(0.1)
    assert service.sent == [("store", 1), ("store", 4), ("store", 1)]
    reports = [answer(task)[0] for task in waiting]
    assert [outcomes(report) for report in reports] == [
        [Outcome.STORED, Outcome.STORED],
        [Outcome.REJECTED],
        [Outcome.STORED],
    ]
    assert reports[1].reasons == {0: "bad"}
    assert outcomes(answer(other)[0]) == [Outcome.STORED]


async def test_a_command_never_carries_more_than_it_may() -> None:
    service = Service(max_command_writes=3)
    await service.start_writer()
    for ids in (["a", "b"], ["c", "d"], ["e"], ["f", "g", "h", "i"]):
        write(service, commands(*ids))
    await service.clock.advance(2.0)
    assert service.sent == [("store", 3), ("store", 2), ("store", 4)]
    await service.stop()


async def test_updates_leave_in_as_small_commands_as_the_server_needs() -> None:
    service = Service()
    service.store.update_limit = 3
    await service.start_writer()
    await service.clock.advance(1.1)
    service.store.poison = {"id6": "bad"}
    eight = write(service, commands(*(f"id{i}" for i in range(8)), verb=Verb.UPDATE))
    one = write(service, commands("x", verb=Verb.UPDATE))
    many = write(service, commands(*"abcde", verb=Verb.INSERT))
    await service.clock.advance(1.0)
    assert service.sent == [("store", 3), ("store", 3), ("store", 3), ("store", 5)]
    assert [i for i, outcome in enumerate(answer(eight)[0].outcomes) if outcome == Outcome.REJECTED] == [6]
    assert answer(eight)[0].reasons == {6: "bad"}
    assert [outcomes(answer(task)[0]) for task in (one, many)] == [[Outcome.STORED], [Outcome.STORED] * 5]
    await service.stop()


async def test_a_second_insert_of_one_id_is_a_duplicate_and_counts_once(service: Service) -> None:
    first = write(service, commands("a"))
    await service.clock.advance(0.1)
    second = write(service, commands("a"))
    await service.clock.advance(0.1)
    assert outcomes(answer(first)[0]) == [Outcome.STORED]
    assert outcomes(answer(second)[0]) == [Outcome.DUPLICATE]
    assert service.writer.stats()["documents"] == {NAMESPACE: 1}


async def test_a_caller_that_goes_away_takes_nothing_along(service: Service) -> None:
    service.store.hold = asyncio.Event()
    gone = write(service, commands("a"))
    await settle()
    gone.cancel()
    stays = write(service, commands("b"))
    service.store.hold.set()
    await service.clock.advance(1.0)
    assert outcomes(answer(stays)[0]) == [Outcome.STORED]
    assert {id_ for _, id_ in service.store.documents} == {"a", "b"}
    assert service.writer_task is not None
    assert not service.writer_task.done()


async def test_what_a_stream_has_stored_is_not_held_when_it_sends_no_more(service: Service) -> None:
    """As one of an older pool: its last batch stayed in memory for as long as the writer lived."""
    for stream in ("0of2", "1of2", "0of1"):
        write(service, [Command(Verb.INSERT, NAMESPACE, [stream], [b"x"], Origin(stream, 1, stream))])
        await service.clock.advance(0.1)
    assert list(service.writer._outbox._of_stream) == ["0of1"]


async def test_the_batch_of_an_older_owner_is_refused(service: Service) -> None:
    newer = [Command(Verb.UPDATE, NAMESPACE, ["a"], [b"x"], Origin("0of1", 2, "newer"))]
    older = [Command(Verb.UPDATE, NAMESPACE, ["a"], [b"x"], Origin("0of1", 1, "older"))]
    other = [Command(Verb.UPDATE, NAMESPACE, ["b"], [b"x"], Origin("1of2", 1, "other"))]
    for some, refused in ((newer, False), (older, True), (other, False)):
        task = write(service, some)
        await service.clock.advance(0.1)
        assert isinstance(task.exception(), Fenced) == refused


async def test_a_new_writer_refuses_who_was_an_owner_before_it_began(service: Service) -> None:
    """It was cut off, and wakes when the writer that knew of its follower has gone: old versions would come back."""
    service.former_owners.add("cut off")
    late = write(service, [Command(Verb.UPDATE, NAMESPACE, ["a"], [b"x"], Origin("0of1", 1, "cut off"))])
    await service.clock.advance(0.1)
    assert isinstance(late.exception(), Fenced)
    assert service.sent == []
    owners = write(service, [Command(Verb.UPDATE, NAMESPACE, ["a"], [b"x"], Origin("0of1", 2, "follower"))])
    await service.clock.advance(0.1)
    assert outcomes(answer(owners)[0]) == [Outcome.STORED]


# The budget


async def test_no_second_holds_more_commands_than_the_limit_and_lanes_are_kept_back(service: Service) -> None:
    for i in range(300):
        write(service, [Command(Verb.INSERT, f"d.c{i}", ["x"], [b"x"])])  # nothing can be merged
    await service.clock.advance(2.0)
    instants = [at for at, _, _ in service.store.commands]
    assert 150 < len(instants) < 300
    assert worst_window(instants) <= 96
    assert service.writer.stats()["commands"]["worst_window"] <= 96


async def test_commands_leave_evenly_while_a_backlog_waits(service: Service) -> None:
    for i in range(50):
        write(service, [Command(Verb.INSERT, f"d.c{i}", ["x"], [b"x"])])
    await service.clock.advance(1.0)
    instants = [at for at, verb, _ in service.store.commands if verb == "store"]
    assert len(instants) == 50
    assert min(later - at for at, later in pairwise(instants)) >= SECOND_NS // 96


async def test_no_more_commands_are_under_way_than_there_are_lanes(service: Service) -> None:
    service.store.hold = asyncio.Event()
    for i in range(10):
        write(service, [Command(Verb.INSERT, f"d.c{i}", ["x"], [b"x"])])
    await service.clock.advance(3.0)
    assert len(service.sent) == 4


async def test_a_refused_command_is_halved_until_the_culprit_stands_alone(service: Service) -> None:
    service.store.refuses_whole = True
    service.store.poison = {"id37": "too large"}
    before = len(service.store.commands)
    task = write(service, commands(*(f"id{i}" for i in range(64))))
    await service.clock.advance(1.0)
    report = answer(task)[0]
    assert [i for i, outcome in enumerate(report.outcomes) if outcome == Outcome.REJECTED] == [37]
    assert report.reasons == {37: "too large"}
    assert set(report.outcomes) == {Outcome.STORED, Outcome.REJECTED}
    instants = [at for at, _, _ in service.store.commands[before:]]
    assert len(instants) == 7 + 6  # of 64, 32, 16, 8, 4, 2 and 1 writes, all refused; and the other half of each
    assert min(later - at for at, later in pairwise(instants)) >= SECOND_NS // 96
    assert len(service.store.documents) == 63


async def test_a_culprit_takes_no_other_buffers_writes_along(service: Service) -> None:
    service.store.refuses_whole = True
    service.store.poison = {"b": "bad"}
    write(service, commands("first"))
    await settle()
    tasks = [write(service, commands("a")), write(service, commands("b")), write(service, commands("c"))]
    await service.clock.advance(1.0)
    assert [outcomes(answer(task)[0]) for task in tasks] == [[Outcome.STORED], [Outcome.REJECTED], [Outcome.STORED]]


async def test_two_culprits_are_both_found(service: Service) -> None:
    service.store.refuses_whole = True
    service.store.poison = {"id3": "bad", "id60": "worse"}
    task = write(service, commands(*(f"id{i}" for i in range(64))))
    await service.clock.advance(2.0)
    assert answer(task)[0].reasons == {3: "bad", 60: "worse"}


# MongoDB going away and coming back


async def test_a_command_that_was_not_sent_is_tried_again_later_and_cost_nothing(service: Service) -> None:
    await service.clock.advance(1.0)  # what it asks at its start is over
    service.store.faults.plan("store", CommandNotSent("refused"))
    task = write(service, commands("a"))
    await settle()
    assert outcomes(answer(task)[0]) == [Outcome.RETRY]
    again = write(service, commands("a"))
    await service.clock.advance(0.2)
    assert outcomes(answer(again)[0]) == [Outcome.STORED]
    assert service.writer.stats()["commands"]["last_second"] == 1


async def test_a_mongodb_that_goes_away_while_a_command_waits_for_the_budget_takes_neither_lane_nor_slot(
    service: Service,
) -> None:
    """After a few of them nothing would ever be sent again."""
    for number in range(LANES + 1):
        service.store.hold = asyncio.Event()
        service.store.faults.plan("store reply", CommandNotSent("away"))
        service.store.faults.plan("probe", CommandNotSent("away"))
        write(service, commands(f"under way {number}"))
        await settle()
        waiting = write(service, commands(f"waits {number}"))
        await settle()
        service.store.hold.set()
        await settle()
        assert service.writer.stats()["mongodb"] == "down"
        await service.clock.advance(0.5)
        assert outcomes(answer(waiting)[0]) == [Outcome.STORED]
    await service.clock.advance(1.0)
    assert len(service.budget._ring._free_at) == LIMIT - LANES


async def test_an_error_that_is_not_about_the_content_is_tried_again_and_keeps_mongodb_up(service: Service) -> None:
    service.store.faults.plan("store", CommandFailed("not primary"))
    task = write(service, commands("a"))
    await settle()
    assert outcomes(answer(task)[0]) == [Outcome.RETRY]
    assert service.writer.stats()["mongodb"] == "up"
    assert service.writer.stats()["last_error"] == "not primary"
    write(service, commands("a"))
    await service.clock.advance(0.2)
    assert service.writer.stats()["last_error"] == ""


async def test_what_is_tried_again_is_told_with_its_reason_to_the_operator_and_to_its_buffer(service: Service) -> None:
    """For ever, perhaps: the server answers, and only its words tell what has to be mended."""
    store, answers = service.store.store, [Report.again(1, "no space left"), Report.again(1, "no space left")]

    async def full(command: Command) -> Report:
        return answers.pop() if answers else await store(command)

    service.store.store = full  # type: ignore[method-assign]
    for _ in range(2):
        task = write(service, commands("a"))
        await service.clock.advance(0.1)
        assert answer(task)[0].retry_reason == "no space left"
        assert (service.writer.stats()["mongodb"], service.writer.stats()["last_error"]) == ("up", "no space left")
    write(service, commands("a"))
    await service.clock.advance(0.1)
    assert service.writer.stats()["last_error"] == ""
    service.store.faults.plan("store", CommandFailed("no such host"))
    failed = write(service, commands("b"))
    await service.clock.advance(0.1)
    assert answer(failed)[0].retry_reason == "no such host"


async def test_an_unknown_outcome_closes_the_gate_until_mongodb_answers_and_the_longest_operation_is_over(
    service: Service,
) -> None:
    service.store.faults.plan("store reply", CommandUnknown("lost"))
    service.store.faults.plan("probe", *[CommandNotSent("away")] * 3)
    lost = write(service, commands("a"))
    await settle()
    assert outcomes(answer(lost)[0]) == [Outcome.RETRY]
    gone_ns = service.clock.now_ns()
    again = write(service, commands("a"))
    await service.clock.advance(OPERATION_S)
    assert not again.done()
    assert service.writer.stats()["mongodb"] == "down"
    await service.clock.advance(2.0)
    assert outcomes(answer(again)[0]) == [Outcome.DUPLICATE]
    after = [at for at, _, _ in service.store.commands if at > gone_ns]
    assert min(after) >= gone_ns + int((0.05 + 0.1 + 0.2 + OPERATION_S) * SECOND_NS)


async def test_counts_are_taken_again_after_a_doubt(service: Service) -> None:
    service.store.faults.plan("store reply", CommandUnknown("lost"))
    write(service, commands("a"))
    await service.clock.advance(OPERATION_S + 2.0)
    assert service.writer.stats()["documents"] == {NAMESPACE: 1}


async def test_several_unknown_outcomes_one_after_the_other_leave_nothing_stuck(service: Service) -> None:
    """The second one comes to light while the first is being settled already."""
    service.store.hold = asyncio.Event()
    first = write(service, [Command(Verb.INSERT, "d.x", ["a"], [b"x"])])
    await service.clock.advance(0.1)
    second = write(service, [Command(Verb.INSERT, "d.y", ["a"], [b"x"])])
    await service.clock.advance(0.1)
    held, service.store.hold = service.store.hold, None
    service.store.faults.plan("store", CommandUnknown("lost"))
    third = write(service, [Command(Verb.INSERT, "d.z", ["a"], [b"x"])])
    await service.clock.advance(3.0)
    assert outcomes(answer(third)[0]) == [Outcome.RETRY]
    service.store.faults.plan("store reply", CommandUnknown("lost"), CommandUnknown("lost"))
    held.set()
    await service.clock.advance(0.1)
    assert outcomes(answer(first)[0]) == outcomes(answer(second)[0]) == [Outcome.RETRY]
    again = write(service, commands("b"))
    await service.clock.advance(2 * OPERATION_S + 3.0)
    assert outcomes(answer(again)[0]) == [Outcome.STORED]


async def test_a_mongodb_that_went_away_silently_is_noticed_within_two_seconds(service: Service) -> None:
    await service.clock.advance(2.0)
    service.store.faults.plan("probe", *[CommandNotSent("away")] * 2)
    await service.clock.advance(2.0)
    assert service.writer.stats()["commands_total"] == 2  # nothing was spent to find out
    service.store.faults.plan("probe", *[CommandNotSent("away")] * 50)
    await service.clock.advance(2.0)
    assert service.writer.stats()["mongodb"] == "down"
    assert service.writer.stats()["last_error"] == "away"


async def test_a_fault_of_ours_ends_the_writer(service: Service) -> None:
    service.store.faults.plan("store", ValueError("a mistake"))  # type: ignore[arg-type]
    task = write(service, commands("a"))
    await service.clock.advance(0.1)
    assert outcomes(answer(task)[0]) == [Outcome.RETRY]
    assert service.writer_task is not None
    with pytest.raises(ValueError):
        answer(service.writer_task)


# Reads


async def test_questions_for_one_id_share_one_command(service: Service) -> None:
    write(service, commands("a"))
    await settle()
    readers = [find(service, "a") for _ in range(20)]
    await service.clock.advance(0.1)
    assert service.sent == [("store", 1), ("find", 1)]
    assert [answer(reader) for reader in readers] == [[b"x"]] * 20


async def test_questions_for_many_ids_share_commands_as_large_as_the_server_allows(service: Service) -> None:
    readers = [find(service, f"id{i}", f"id{i + 1}") for i in range(149)]
    await service.clock.advance(0.1)
    assert service.sent == [("find", 100), ("find", 50)]
    assert [answer(reader) for reader in readers] == [[None, None]] * 149


async def test_what_did_not_fit_into_an_answer_is_asked_again_and_is_not_told_as_missing(service: Service) -> None:
    bodies = {id_: id_.encode() for id_ in "abc"}
    service.store.documents.update({(NAMESPACE, id_): body for id_, body in bodies.items()})
    service.store.answer_holds = 1
    first = find(service, "a", "b", "missing", "c")
    await settle()
    meanwhile = find(service, "c", "b")
    await service.clock.advance(0.2)
    assert service.sent == [("find", 4), ("find", 2), ("find", 2)], "no more than there are documents"
    assert answer(first) == [b"a", b"b", None, b"c"]
    assert answer(meanwhile) == [b"c", b"b"]


async def test_a_command_that_nobody_answered_is_among_those_of_the_last_second(service: Service) -> None:
    """MongoDB may have executed it, and an operator holds this number against the cap."""
    before = service.writer.stats()["commands"]["last_second"]
    service.store.faults.plan("store", CommandUnknown("lost"))
    write(service, commands("a"))
    await service.clock.advance(0.05)
    assert service.writer.stats()["commands"]["last_second"] == before + 1


async def test_a_server_that_takes_one_id_a_command_gets_one() -> None:
    service = Service()
    service.store.find_limit = 1
    await service.start_writer()
    await service.clock.advance(1.1)
    reader = find(service, "a", "b", "c")
    await service.clock.advance(0.1)
    assert service.sent == [("find", 1)] * 3
    assert answer(reader) == [None, None, None]
    await service.stop()


async def test_reads_and_writes_take_turns_and_so_do_collections_and_samples() -> None:
    service = Service()
    service.store.find_limit = 1
    await service.start_writer()
    await service.clock.advance(1.1)
    find(service, *(f"a{i}" for i in range(50)), namespace="d.busy")
    calm = find(service, "b", namespace="d.calm")
    stored = write(service, commands("w"))
    sample = asyncio.create_task(service.writer.sample("d.busy", 5))
    await service.clock.advance(0.09)
    assert calm.done()
    assert stored.done()
    assert sample.done()
    await service.stop()


async def test_samples_that_wait_together_share_a_command(service: Service) -> None:
    write(service, commands("a"))
    await service.clock.advance(0.1)
    samples = [asyncio.create_task(service.writer.sample(NAMESPACE, 5)) for _ in range(10)]
    await service.clock.advance(0.1)
    assert [answer(sample) for sample in samples] == [[("a", b"x")]] * 10
    assert service.sent == [("store", 1), ("sample", 0)]


async def test_reads_are_told_at_once_while_mongodb_is_away(service: Service) -> None:
    waiting = find(service, "a")
    service.store.faults.plan("find", CommandNotSent("away"))
    service.store.faults.plan("probe", *[CommandNotSent("away")] * 50)
    await service.clock.advance(0.1)
    with pytest.raises(DatabaseUnavailable, match="away"):
        answer(waiting)
    refused = find(service, "a")
    await settle()
    with pytest.raises(DatabaseUnavailable, match="away"):
        answer(refused)


async def test_a_mongodb_that_hangs_is_down_long_before_its_commands_time_out(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.store.hold = asyncio.Event()
    hanging = write(service, commands("a"))
    answering = asyncio.Event()
    monkeypatch.setattr(service.writer._pulse, "_probe", answering.wait)
    await service.clock.advance(0.5)
    assert service.writer.stats()["mongodb"] == "up", "a second is not long"
    await service.clock.advance(1.0)
    assert service.writer.stats()["mongodb"] == "down"
    assert service.writer.stats()["last_error"] == "MongoDB has not answered for 1 s"
    assert not hanging.done(), "what is under way is waited for"
    answering.set()
    service.store.hold.set()
    await service.clock.advance(0.1)
    assert service.writer.stats()["mongodb"] == "up", "it was only slow"
    assert outcomes(answer(hanging)[0]) == [Outcome.STORED]


async def test_reads_that_wait_when_mongodb_goes_away_are_told(service: Service) -> None:
    service.store.hold = asyncio.Event()
    blockers = []
    for i in range(4):
        blockers.append(find(service, f"id{i}"))
        await service.clock.advance(0.02)
    waiting = find(service, "a")
    await settle()
    service.store.faults.plan("probe", CommandNotSent("away"))
    await service.clock.advance(2.0)
    with pytest.raises(DatabaseUnavailable):
        answer(waiting)


async def test_too_many_waiting_reads_are_refused(service: Service) -> None:
    service.store.hold = asyncio.Event()
    for i in range(101):  # of which one command is on its way
        find(service, *(f"id{i}-{j}" for j in range(100)))
        await settle()
    refused = find(service, "one more")
    await settle()
    with pytest.raises(DatabaseUnavailable, match="10000 reads wait"):
        answer(refused)


async def test_an_id_that_is_refused_fails_its_reader_only(service: Service) -> None:
    service.store.faults.plan("find", CommandRefused("no id"))
    bad = find(service, "a")
    await service.clock.advance(0.1)
    with pytest.raises(DatabaseUnavailable, match="no id"):
        answer(bad)
    assert service.writer.stats()["mongodb"] == "up"


# The right to send


async def test_after_a_clean_end_a_writer_waits_one_window_before_its_first_command() -> None:
    service = Service()
    await service.start_writer()
    await service.clock.advance(10.0)
    assert service.store.commands[0][0] == SECOND_NS
    await service.stop()


async def test_after_an_unclean_end_it_waits_for_the_longest_operation_as_well() -> None:
    service = Service()
    service.lease = MemoryLease(service.clock, clean=False)
    service.new_writer()
    await service.start_writer()
    await service.clock.advance(10.0)
    assert service.store.commands[0][0] == int((1.0 + OPERATION_S) * SECOND_NS)
    await service.stop()


async def test_a_writer_killed_with_commands_under_way_and_its_successor_stay_within_the_limit_together() -> None:
    service = Service()
    await service.start_writer()
    await service.clock.advance(1.1)
    for i in range(200):
        write(service, [Command(Verb.INSERT, f"d.c{i}", ["x"], [b"x"])])
    await service.clock.advance(1.0)
    killed_ns = service.clock.now_ns()
    await service.kill_writer()
    service.new_writer()
    await service.start_writer()
    for i in range(200):
        write(service, [Command(Verb.INSERT, f"d.c{i}", ["x"], [b"x"])])
    await service.clock.advance(20.0)
    instants = [at for at, _, _ in service.store.commands]
    assert min(at for at in instants if at > killed_ns) >= killed_ns + int((1.0 + OPERATION_S) * SECOND_NS)
    assert worst_window(instants) <= 96
    await service.stop()


async def test_a_second_writer_waits_until_the_first_is_gone() -> None:
    service = Service()
    await service.start_writer()
    await service.clock.advance(1.1)
    first = service.writer_task
    service.lease = service.lease.another()
    service.new_writer()
    await service.start_writer()
    await service.clock.advance(20.0)
    assert service.writer.stats()["epoch"] == 0
    assert service.writer.stats()["last_error"] == "another writer holds the lease"
    assert len(service.store.commands) == 2
    await end(first)
    await service.clock.advance(3.1)
    assert service.writer.stats()["epoch"] == 2
    await service.stop()


async def test_a_writer_that_has_lost_its_lease_sends_nothing_more_and_ends(service: Service) -> None:
    service.lease.rival = True
    await service.clock.advance(1.1)
    assert service.writer_task is not None
    with pytest.raises(Fenced):
        answer(service.writer_task)
    write(service, commands("a"))
    await service.clock.advance(10.0)
    assert service.sent == []


async def test_without_a_lease_a_read_is_told_at_once_that_it_cannot_be_answered(service: Service) -> None:
    """Its caller would give up after ten seconds, and take the buffer for dead."""
    service.lease.faults.plan("renew", *[LogUnavailable("redis is away")] * 100)
    await service.clock.advance(service.lease.ttl_s + 1.0)
    with pytest.raises(DatabaseUnavailable, match="redis is away"):
        await service.writer.find(NAMESPACE, ["a"])


async def test_while_the_lease_cannot_be_renewed_nothing_is_sent_after_its_end(service: Service) -> None:
    service.lease.faults.plan("renew", *[LogUnavailable("redis is away")] * 4)
    await service.clock.advance(3.1)
    late = write(service, commands("a"))
    await service.clock.advance(0.5)
    assert service.sent == []
    await service.clock.advance(3.0)
    assert outcomes(answer(late)[0]) == [Outcome.STORED]


async def test_a_tenure_is_counted_from_before_the_lease_was_asked_for() -> None:
    """In Redis it begins before the answer comes, and it must not end there first."""
    clock = ManualClock()

    class Slow(MemoryLease):
        async def acquire(self) -> Grant | None:
            grant = await super().acquire()
            await clock.sleep(1.0)
            return grant

        async def renew(self, *, alone: bool = False) -> bool:
            renewed = await super().renew(alone=alone)
            await clock.sleep(1.0)
            return renewed

    tenure = Tenure(Slow(ttl_s=3.0, clock=clock), clock)
    for step in (tenure.begin, tenure.hold):  # the second asks after a third of the lease
        task = asyncio.create_task(step())
        await clock.advance(1.0 if step == tenure.begin else 2.0)
        await end(task)
        await clock.advance(1.9)
        assert tenure.holds
        await clock.advance(0.2)
        assert not tenure.holds


async def test_a_writer_that_was_stopped_for_longer_than_its_lease_asks_before_it_sends(service: Service) -> None:
    service.clock._now_ns += 10 * SECOND_NS  # the process was stopped: time went on and nothing of it ran
    write(service, commands("a"))
    service.lease.rival = True
    await settle()
    assert service.sent == []
    await service.clock.advance(2.0)
    assert service.sent == []
    assert service.writer_task is not None
    with pytest.raises(Fenced):
        answer(service.writer_task)


async def close(service: Service, seconds: float = 1.0) -> None:
    await end(service.writer_task)
    closing = asyncio.create_task(service.writer.close())
    await service.clock.advance(seconds)
    answer(closing)


async def test_a_writer_that_closes_with_nothing_in_doubt_gives_the_lease_back(service: Service) -> None:
    await close(service)
    assert service.lease.released


async def test_a_writer_that_closes_in_doubt_lets_the_lease_run_out(service: Service) -> None:
    service.store.faults.plan("store reply", CommandUnknown("lost"))
    service.store.faults.plan("probe", *[CommandNotSent("away")] * 99)
    write(service, commands("a"))
    await service.clock.advance(0.2)
    await close(service)
    assert not service.lease.released


async def test_a_doubt_that_was_settled_lasts_until_the_longest_operation_is_over(service: Service) -> None:
    service.store.faults.plan("store reply", CommandUnknown("lost"))
    write(service, commands("a"))
    await service.clock.advance(OPERATION_S - 0.5)  # MongoDB answers again, and the lost command may still be executed
    await close(service, 0.1)
    assert not service.lease.released


async def test_a_writer_that_follows_an_unclean_one_is_as_unclean_until_its_quarantine_is_over() -> None:
    service = Service()
    service.lease = MemoryLease(service.clock, clean=False)
    service.new_writer()
    await service.start_writer()
    await service.clock.advance(2.0)
    await close(service)
    assert not service.lease.released


async def test_closing_waits_for_what_is_under_way(service: Service) -> None:
    service.store.hold = asyncio.Event()
    task = write(service, commands("a"))
    await service.clock.advance(0.1)
    await end(service.writer_task)
    closing = asyncio.create_task(service.writer.close())
    await service.clock.advance(1.0)
    assert not closing.done()
    service.store.hold.set()
    await service.clock.advance(0.1)
    answer(closing)
    assert outcomes(answer(task)[0]) == [Outcome.STORED]
    assert service.lease.released


async def test_closing_ends_while_mongodb_is_away_and_nothing_is_sent_afterwards(service: Service) -> None:
    service.store.faults.plan("find", CommandNotSent("away"))
    service.store.faults.plan("probe", *[CommandNotSent("away")] * 20)
    reader = find(service, "a")
    await service.clock.advance(0.5)
    with pytest.raises(DatabaseUnavailable, match="away"):
        answer(reader)
    await close(service)
    before = len(service.store.commands)
    await service.clock.advance(60.0)
    assert len(service.store.commands) == before


async def test_a_release_that_does_not_reach_the_log_does_not_keep_the_writer_from_closing(service: Service) -> None:
    service.lease.faults.plan("release", LogUnavailable("away"))
    await close(service)
    assert not service.lease.released


async def test_the_sizes_of_counted_collections_are_known_without_asking_each_time(service: Service) -> None:
    write(service, commands("a", "b", "c"))
    await service.clock.advance(0.1)
    write(service, commands("b", verb=Verb.DELETE))
    await service.clock.advance(0.1)
    assert service.writer.stats()["documents"] == {NAMESPACE: 2}
    assert [verb for _, verb, _ in service.store.commands].count("count") == 1
    assert service.writer.stats()["mean_writes"] == 2.0


async def test_a_count_that_mongodb_refuses_leaves_the_number_unknown_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = Service()
    refusals = [CommandForbidden("not authorized on d to execute command"), CommandTimedOut("operation exceeded time")]
    service.store.faults.plan("count", *refusals)
    await service.start_writer()
    task = write(service, commands("a"))
    await service.clock.advance(1.1)
    assert outcomes(answer(task)[0]) == [Outcome.STORED]
    stats = service.writer.stats()
    assert (stats["mongodb"], stats["last_error"], stats["documents"]) == ("up", "", {})
    assert stats["commands"]["worst_window"] == 3, "what was refused has been executed: it counts"
    for known in ({}, {NAMESPACE: 1}):  # it is asked again whenever MongoDB was away
        service.store.faults.plan("probe", CommandNotSent("away"))
        await service.clock.advance(2.0)
        assert service.writer.stats()["documents"] == known
    assert [record.args and record.args[0] for record in caplog.records] == [NAMESPACE], "told once"
    await service.stop()


@pytest.mark.parametrize("fault", [CommandRefused("it is a view"), CommandFailed("no shard has a primary")])
async def test_a_count_that_fails_keeps_no_write_waiting(fault: SpillwayError) -> None:
    service = Service()
    service.store.faults.plan("count", *[fault] * 99)
    await service.start_writer()
    task = write(service, commands("a"))
    await service.clock.advance(1.1)
    assert outcomes(answer(task)[0]) == [Outcome.STORED]
    await service.stop()


async def test_a_count_that_is_never_answered_is_given_up_and_writes_go_on(caplog: pytest.LogCaptureFixture) -> None:
    """It may be slower than a command may be: of a view or a time series it reads everything."""
    service = Service()
    service.store.faults.plan("count", *[CommandUnknown("timed out")] * 99)
    await service.start_writer()
    task = write(service, commands("a"))
    await service.clock.advance(1.1)
    assert service.writer.stats()["last_error"] == f"no answer to a count of {NAMESPACE}: timed out"
    await service.clock.advance(3 * OPERATION_S)
    assert outcomes(answer(task)[0]) == [Outcome.STORED]
    stats = service.writer.stats()
    assert (stats["mongodb"], stats["last_error"], stats["documents"]) == ("up", "", {})
    assert [record.args and record.args[0] for record in caplog.records] == [NAMESPACE]
    service.store.faults.plan("probe", CommandNotSent("away"))
    await service.clock.advance(OPERATION_S)
    assert service.writer.stats()["mongodb"] == "up", "it is not asked for again"
    await service.stop()


async def ended_by_the_server(service: Service) -> asyncio.Event:
    """Some of a command's writes are done, nobody knows how many. A later one is done as a whole, so they may be
    counted; that hangs until the event."""
    service.store.faults.plan("store reply", CommandTimedOut("operation exceeded time limit"))
    ended = write(service, commands("a", "b"))
    await service.clock.advance(0.02)
    assert outcomes(answer(ended)[0]) == [Outcome.RETRY] * 2
    storing, counting = asyncio.Event(), asyncio.Event()
    service.store.hold = storing
    again = write(service, commands("a", "b", "c"))
    await service.clock.advance(0.02)
    service.store.hold = counting
    storing.set()
    await settle()
    assert outcomes(answer(again)[0]) == [Outcome.DUPLICATE] * 2 + [Outcome.STORED]
    return counting


async def test_after_a_command_that_the_server_ended_its_collection_is_counted_once_one_is_done(
    service: Service,
) -> None:
    service.store.faults.plan("store reply", CommandTimedOut("operation exceeded time limit"))
    write(service, commands("a", "b"))
    await service.clock.advance(5.0)
    assert service.writer.stats()["documents"] == {}, "what kept it from being done may keep a count as long"
    assert service.writer.stats()["held_s"] == 0.0, "it is known to be over"
    write(service, commands("c"))
    await service.clock.advance(0.4)
    assert service.writer.stats()["documents"] == {NAMESPACE: 3}
    assert [verb for _, verb, _ in service.store.commands][-2:] == ["store", "count"]


async def test_a_count_that_failed_is_not_asked_again_by_a_write_because_of_a_doubt_long_settled() -> None:
    census = Census([NAMESPACE])

    async def count(namespace: str) -> int:
        return 3

    async def refused(namespace: str) -> int:
        raise CommandFailed("not now")

    census.renew(everything=True)
    await census.take(count)
    census.doubt(NAMESPACE)
    census.renew(everything=False)
    await census.take(count)
    census.renew(everything=True)
    await census.take(refused)
    census.grow(NAMESPACE, 1)
    assert not census.is_due


async def test_a_count_waits_until_nothing_else_is_under_way_and_nobody_waits_for_it(service: Service) -> None:
    hangs = await ended_by_the_server(service)
    slow = write(service, [Command(Verb.INSERT, "d.other", ["x"], [b"x"])])
    await service.clock.advance(1.0)
    assert service.store.commands[-1][1] == "store", "nobody could tell whether what is under way is in the number"
    service.store.hold = None
    reader, third = find(service, "a"), write(service, [Command(Verb.INSERT, "d.third", ["x"], [b"x"])])
    await service.clock.advance(0.05)
    assert outcomes(answer(third)[0]) == [Outcome.STORED], "it did not wait for the slow one"
    assert answer(reader) == [b"x"]
    hangs.set()
    counting = service.store.hold = asyncio.Event()
    await service.clock.advance(0.4)
    assert outcomes(answer(slow)[0]) == [Outcome.STORED]
    assert service.store.commands[-1][1] == "count"
    service.store.hold = None
    reader, after = find(service, "b"), write(service, commands("d"))
    await service.clock.advance(0.05)
    assert outcomes(answer(after)[0]) == [Outcome.STORED], "it did not wait for the count"
    assert answer(reader) == [b"x"]
    counting.set()
    await settle()
    assert service.writer.stats()["documents"] == {}, "that one was stored while it was counted"
    await service.clock.advance(0.4)
    assert service.writer.stats()["documents"] == {NAMESPACE: 4}


async def test_a_count_under_way_when_mongodb_is_lost_ends_before_it_counts_as_back(service: Service) -> None:
    """A second one was sent beside it; and when the first was then never answered, the gate stayed shut for good."""
    counting = await ended_by_the_server(service)
    await service.clock.advance(0.4)
    counts = [verb for _, verb, _ in service.store.commands].count("count")
    assert service.store.commands[-1][1] == "count"
    service.store.faults.plan("probe", CommandNotSent("reset"))
    await service.clock.advance(2.0)
    assert service.writer.stats()["mongodb"] == "down"
    assert [verb for _, verb, _ in service.store.commands].count("count") == counts
    service.store.faults.plan("count reply", CommandUnknown("timed out"))
    counting.set()
    late = write(service, commands("d"))
    await service.clock.advance(OPERATION_S + 1.0)
    assert outcomes(answer(late)[0]) == [Outcome.STORED]
    stats = service.writer.stats()
    assert (stats["mongodb"], stats["held_s"], stats["documents"]) == ("up", 0.0, {NAMESPACE: 4})
    assert not service.budget.has_unknown


async def test_a_number_that_is_no_longer_sure_is_not_told_when_it_may_not_be_asked_again(service: Service) -> None:
    assert service.writer.stats()["documents"] == {NAMESPACE: 0}
    service.store.faults.plan("store reply", CommandUnknown("lost"))
    service.store.faults.plan("count", CommandForbidden("not authorized"))
    write(service, commands("a"))
    await service.clock.advance(OPERATION_S + 2.0)
    assert service.writer.stats()["documents"] == {}


async def test_a_mongodb_is_neither_up_nor_down_while_a_new_writer_holds_still() -> None:
    service = Service()
    await service.start_writer()
    await service.clock.advance(0.9)
    assert (service.writer.stats()["mongodb"], service.writer.stats()["last_error"]) == ("unknown", "")
    assert "mongodb_up" not in [name for _, name, *_ in service.telemetry.records]
    await service.clock.advance(0.4)
    assert service.writer.stats()["mongodb"] == "up"
    assert ("gauge", "mongodb_up", 1.0, {}) in service.telemetry.records
    await service.stop()


async def test_a_mongodb_that_is_away_at_a_start_is_down() -> None:
    service = Service()
    service.store.faults.plan("probe", CommandNotSent("refused"))
    await service.start_writer()
    await service.clock.advance(0.01)
    assert (service.writer.stats()["mongodb"], service.writer.stats()["last_error"]) == ("down", "refused")
    await service.stop()


async def test_a_mongodb_that_is_lost_is_down_whatever_it_answers_on_another_connection(service: Service) -> None:
    answers, hangs = asyncio.Event(), asyncio.Event()
    for gate in (answers, hangs):
        service.store.hold = gate
        reader = find(service, "x")
        await service.clock.advance(0.05)
    service.store.faults.plan("store", CommandUnknown("lost"))
    write(service, commands("a"))
    await service.clock.advance(0.05)
    answers.set()
    await settle()
    assert not reader.done(), "one is still under way, so nobody has asked whether MongoDB is back"
    assert (service.writer.stats()["mongodb"], service.writer.stats()["last_error"]) == ("down", "lost")
    hangs.set()


@pytest.mark.parametrize(("fault", "times"), [(CommandNotSent("away"), 2), (CommandUnknown("lost"), 1)])
async def test_a_mongodb_that_does_not_answer_the_count_is_down_until_it_does(fault: SpillwayError, times: int) -> None:
    service = Service()
    service.store.faults.plan("count", *[fault] * times)
    await service.start_writer()
    await service.clock.advance(1.02)
    assert service.writer.stats()["mongodb"] == "down"
    assert service.writer.stats()["documents"] == {}
    await service.clock.advance(3 * OPERATION_S)
    assert service.writer.stats()["mongodb"] == "up"
    assert service.writer.stats()["documents"] == {NAMESPACE: 0}
    await service.stop()

"""From callers into the log: nothing is answered before it is on disk, and no answer says more than is known."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
from composed import BOUNDS, Service, answer, delete, end, insert, keyed, only_call, patch, put, written

from actors.adapters.clock import ManualClock, settle
from actors.adapters.memory import MemoryLog, RecordingTelemetry
from actors.appends import Bounds, Call, Kept
from actors.backlog import Backlog
from actors.core.arrivals import LaneCall
from actors.core.document import MalformedPayload, decode_writes, encode_writes
from actors.core.errors import BufferUnavailable, Draining, Fenced, LogUnavailable, OutcomeUnknown, QueueFull
from actors.core.ports import Appended, Keyed
from actors.core.rates import RateMeter
from actors.inflow import Inflow


class SlowLog(MemoryLog):
    """A log whose disk takes until `synced` is set."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.synced = asyncio.Event()
        self.appends: list[int] = []

    async def append(self, payload: bytes, keyed: Sequence[Keyed] = (), calls: Sequence[LaneCall] = ()) -> Appended:
        self.appends.append(len(decode_writes(payload)) + len(keyed))
        await self.synced.wait()
        return await super().append(payload, keyed, calls)


class Intake:
    """An inflow and what surrounds it."""

    def __init__(self, log: MemoryLog | None = None, bounds: Bounds = BOUNDS) -> None:
        self.clock = ManualClock()
        self.log = log or MemoryLog(clock=self.clock)
        self.backlog = Backlog()
        self.drained = RateMeter()
        self.telemetry = RecordingTelemetry()
        self.inflow = Inflow(self.log, self.backlog, bounds, self.clock, self.telemetry, self.drained, lambda: None)
        self.run: asyncio.Task[None] | None = None
        self.calls: list[asyncio.Task[Kept]] = []

    async def start(self) -> Intake:
        await self.log.open()
        await self.inflow.load()
        self.run = asyncio.create_task(self.inflow.run())
        await settle()
        return self

    def append(self, *ids: str, keys: Sequence[Keyed] = ()) -> asyncio.Task[Kept]:
        payload = encode_writes([put(id_) for id_ in ids])
        append = self.inflow.append(only_call(len(ids)), payload, len(ids) + written(keys), keys)
        self.calls.append(asyncio.create_task(append))
        return self.calls[-1]

    async def stop(self) -> None:
        await end(self.run, *self.calls)

    @property
    def logged(self) -> list[list[str]]:
        return [[write.id for write in decode_writes(payload)] for payload in self.log.entries.values()]


@pytest.fixture
async def intake() -> AsyncIterator[Intake]:
    one = await Intake().start()
    yield one
    await one.stop()


async def slow_intake(bounds: Bounds = BOUNDS) -> tuple[Intake, SlowLog]:
    log = SlowLog(ManualClock())
    return await Intake(log, bounds).start(), log


async def ends_fenced(intake: Intake) -> None:
    """Within a second, because its stream has a newer owner."""
    await intake.clock.advance(1.0)
    assert intake.run is not None
    with pytest.raises(Fenced):
        answer(intake.run)


async def test_no_answer_before_the_log_has_it() -> None:
    intake, log = await slow_intake()
    call = intake.append("a")
    await intake.clock.advance(2.0)
    assert not call.done()
    assert intake.backlog.writes == 0
    log.synced.set()
    await settle()
    assert answer(call).position in log.entries
    await intake.stop()


async def test_calls_that_come_during_an_append_share_the_next() -> None:
    intake, log = await slow_intake()
    first = intake.append("a")
    await settle()
    others = [intake.append("b", "c"), intake.append("d")]
    await settle()
    log.synced.set()
    await settle()
    assert log.appends == [1, 3]
    assert [answer(call).first for call in (first, *others)] == [0, 0, 2]
    assert answer(others[0]).position == answer(others[1]).position != answer(first).position
    await intake.stop()


async def test_an_entry_is_not_larger_than_a_group_unless_one_call_is() -> None:
    intake, log = await slow_intake(Bounds(1_000, 100_000, group_writes=3, group_bytes=50_000, patience_s=4.0))
    for ids in (["a"], ["b", "c"], ["d"], ["e"], ["f", "g", "h", "i"]):
        intake.append(*ids)
    log.synced.set()
    await settle()
    assert log.appends == [3, 2, 4]
    await intake.stop()


async def test_an_entry_has_not_more_bytes_than_a_group_unless_one_call_has() -> None:
    size = len(encode_writes([put("a")]))
    intake, log = await slow_intake(Bounds(1_000, 100_000, group_writes=500, group_bytes=2 * size, patience_s=4.0))
    for ids in (["a"], ["b"], ["c"], ["d", "e", "f"], ["g"]):
        intake.append(*ids)
    log.synced.set()
    await settle()
    assert log.appends == [2, 1, 3, 1]
    await intake.stop()


async def test_the_answer_tells_where_each_call_stands_in_its_entry(intake: Intake) -> None:
    calls = [intake.append("a", "b"), intake.append(keys=[keyed("k", put("c"))]), intake.append("d")]
    await settle()
    assert [answer(call).first for call in calls] == [0, 0, 2]
    assert intake.logged == [["a", "b", "d"], ["c"]]
    (kept,) = answer(calls[1]).keyed
    assert kept.fresh
    assert intake.log.entries[kept.position.removeprefix("0of1/")] == encode_writes([put("c")])


async def test_a_key_keeps_one_request_and_tells_where(intake: Intake) -> None:
    first = intake.append(keys=[keyed("k", put("a"))])
    await settle()
    again = intake.append(keys=[keyed("k", put("a"))])
    other = intake.append(keys=[keyed("k", put("a"), fingerprint="g")])
    await settle()
    assert answer(again).keyed[0] == answer(first).keyed[0]._replace(fresh=False)
    assert answer(other).keyed[0].conflict
    assert intake.logged == [["a"]]
    assert intake.backlog.writes == 1


async def test_when_the_log_surely_did_not_take_it_the_caller_hears_that(intake: Intake) -> None:
    intake.log.faults.plan("append", LogUnavailable("no disk"))
    call = intake.append("a")
    await settle()
    with pytest.raises(LogUnavailable, match="no disk"):
        answer(call)
    assert intake.logged == []


async def test_while_the_log_is_away_calls_are_refused_at_once_and_taken_again_when_it_is_back(intake: Intake) -> None:
    intake.log.faults.plan("ping", *[LogUnavailable("away")] * 3)
    await intake.clock.advance(0.5)
    refused = intake.append("a")
    await settle()
    with pytest.raises(LogUnavailable, match="away"):
        answer(refused)
    assert not intake.inflow.ready
    await intake.clock.advance(1.0)
    assert intake.inflow.ready
    taken = intake.append("b")
    await settle()
    assert answer(taken).position
    assert intake.logged == [["b"]]


async def test_an_append_without_an_answer_is_found_and_not_done_twice(intake: Intake) -> None:
    intake.log.faults.plan("append reply", OutcomeUnknown("lost"))
    call = intake.append("a", "b")
    await settle()
    assert not call.done()
    await intake.clock.advance(1.0)
    assert intake.logged == [["a", "b"]]
    assert answer(call).position in intake.log.entries
    assert intake.backlog.writes == 2


async def test_an_append_that_was_lost_on_the_way_is_done_again(intake: Intake) -> None:
    intake.log.faults.plan("append", OutcomeUnknown("lost"))
    call = intake.append("a")
    await intake.clock.advance(1.0)
    assert answer(call).position in intake.log.entries
    assert intake.logged == [["a"]]


async def test_an_append_that_was_lost_is_not_taken_for_the_entry_before_it(intake: Intake) -> None:
    intake.append("a")
    await settle()
    intake.log.faults.plan("append", OutcomeUnknown("lost on its way"))
    call = intake.append("b")  # as many bytes
    await intake.clock.advance(1.0)
    assert intake.logged == [["a"], ["b"]]
    assert answer(call).position == intake.backlog.last_position


async def test_a_call_that_comes_again_while_it_is_under_way_is_kept_once() -> None:
    """A buffer that hung may wake to both."""
    intake, log = await slow_intake()
    intake.append("first")
    await settle()
    sent, payload = only_call(1), encode_writes([put("a")])
    calls = [asyncio.create_task(intake.inflow.append(sent, payload, 1)) for _ in range(2)]
    await settle()
    log.synced.set()
    await settle()
    assert intake.logged == [["first"], ["a"]]
    assert [answer(call).position for call in calls] == [list(log.entries)[1]] * 2
    assert intake.backlog.writes == 2
    await end(*calls)
    await intake.stop()


async def test_a_call_that_comes_behind_a_later_one_of_its_lane_is_not_told_to_be_kept() -> None:
    """It is not, or nobody knows where."""
    intake, log = await slow_intake(replace(BOUNDS, group_writes=1))
    intake.append("first")
    await settle()
    payload = encode_writes([put("a")])
    calls = [asyncio.create_task(intake.inflow.append(LaneCall("lane", number, 1), payload, 1)) for number in (2, 1)]
    await settle()
    log.synced.set()
    await settle()
    calls.append(asyncio.create_task(intake.inflow.append(LaneCall("lane", 1, 1), payload, 1)))
    await settle()
    assert answer(calls[0]).position == list(log.entries)[1]
    assert intake.logged == [["first"], ["a"]]
    for late in calls[1:]:
        with pytest.raises(OutcomeUnknown):
            answer(late)
    await end(*calls)
    await intake.stop()


@pytest.mark.parametrize("refusing", ["full", "draining"])
async def test_a_call_that_is_kept_is_told_so_even_where_a_new_one_would_be_refused(refusing: str) -> None:
    intake = await Intake(bounds=replace(BOUNDS, max_writes=2)).start()
    sent, payload = only_call(2), encode_writes([put("a"), put("b")])
    kept = await intake.inflow.append(sent, payload, 2)
    intake.inflow.draining = refusing == "draining"
    with pytest.raises((QueueFull, Draining)):
        await intake.inflow.append(only_call(1), encode_writes([put("c")]), 1)
    assert await intake.inflow.append(sent, payload, 2) == kept
    assert intake.logged == [["a", "b"]]
    await intake.stop()


async def test_a_request_under_a_key_is_asked_for_again_where_the_plain_ones_of_its_call_are_kept(
    intake: Intake,
) -> None:
    sent, payload, keys = only_call(1), encode_writes([put("a")]), [keyed("k", put("b"))]
    first = await intake.inflow.append(sent, payload, 2, keys)
    again = await intake.inflow.append(sent, payload, 2, keys)
    assert (again.position, again.first) == (first.position, first.first)
    assert [item.fresh for item in (*first.keyed, *again.keyed)] == [True, False]
    assert intake.logged == [["a"], ["b"]]
    assert intake.backlog.writes == 2


async def test_a_log_that_is_back_is_not_mirrored_twice(intake: Intake) -> None:
    intake.append("a")
    await settle()
    intake.log.faults.plan("ping", LogUnavailable("blink"))
    await intake.clock.advance(1.0)
    assert intake.inflow.log_up
    assert (len(intake.backlog), intake.inflow.accepted.total) == (1, 1)


async def test_what_an_append_under_way_has_kept_is_not_read_from_the_log_as_well() -> None:
    class LateLog(SlowLog):
        async def append(self, payload: bytes, keyed: Sequence[Keyed] = (), calls: Sequence[LaneCall] = ()) -> Appended:
            appended = await MemoryLog.append(self, payload, keyed, calls)
            await self.synced.wait()
            return appended

    log = LateLog(ManualClock())
    intake = await Intake(log).start()
    call = intake.append("a")
    await settle()
    log.faults.plan("ping", LogUnavailable("blink"))
    await intake.clock.advance(1.0)
    log.synced.set()
    await intake.clock.advance(1.0)
    assert answer(call).position == intake.backlog.last_position
    assert len(intake.backlog) == 1
    await intake.stop()


async def test_an_append_that_arrives_after_its_time_is_refused_by_the_log(intake: Intake) -> None:
    intake.log.faults.plan("append late", OutcomeUnknown("slow"))
    call = intake.append("a")
    await intake.clock.advance(1.0)
    assert answer(call).position in intake.log.entries
    intake.log.land()
    assert intake.logged == [["a"]], "the first try arrived as well, and nobody would ever have flushed it"
    later = intake.append("b")
    await settle()
    assert answer(later).position == intake.backlog.last_position


async def test_a_keyed_append_that_arrives_late_is_never_answered_without_being_known(intake: Intake) -> None:
    intake.log.faults.plan("append late", OutcomeUnknown("slow"))
    call = intake.append(keys=[keyed("k", put("a"))])
    await intake.clock.advance(1.0)
    intake.log.land()
    await settle()
    assert answer(call).keyed[0].fresh
    assert intake.backlog.writes == 1
    assert intake.logged == [["a"]]


async def test_a_keyed_append_without_an_answer_is_kept_once_and_mirrored(intake: Intake) -> None:
    intake.log.faults.plan("append reply", OutcomeUnknown("lost"))
    call = intake.append(keys=[keyed("k", put("a"))])
    await intake.clock.advance(1.0)
    assert answer(call).keyed[0].position == f"0of1/{next(iter(intake.log.entries))}"
    assert intake.logged == [["a"]]
    assert intake.backlog.writes == 1


async def test_at_the_deadline_the_caller_hears_that_the_outcome_is_unknown(intake: Intake) -> None:
    intake.log.faults.plan("append", OutcomeUnknown("lost"))
    intake.log.faults.plan("ping", *[LogUnavailable("away")] * 100)
    call = intake.append("a")
    await intake.clock.advance(3.9)
    assert not call.done()
    await intake.clock.advance(0.2)
    with pytest.raises(OutcomeUnknown):
        answer(call)


async def test_what_is_perhaps_kept_is_never_answered_as_surely_not_kept(intake: Intake) -> None:
    intake.log.faults.plan("append reply", OutcomeUnknown("lost"))
    call = intake.append("a", keys=[keyed("k", put("b"))])
    await settle()
    intake.log.faults.plan("append", LogUnavailable("then refused"))
    await intake.clock.advance(1.0)
    with pytest.raises(OutcomeUnknown):
        answer(call)
    assert intake.logged == [["a"], ["b"]]


async def test_an_owner_that_is_fenced_after_a_doubt_does_not_say_that_surely_nothing_was_kept(intake: Intake) -> None:
    """A fenced append keeps nothing itself; the try before it may have."""
    intake.log.faults.plan("append reply", OutcomeUnknown("lost"))
    call = intake.append(keys=[keyed("k", put("a"))])
    await settle()
    intake.log.faults.plan("append", Fenced("a newer owner has opened it just now"))
    await ends_fenced(intake)
    with pytest.raises(OutcomeUnknown):
        answer(call)
    assert intake.logged == [["a"]]


async def test_a_known_key_beside_an_entry_that_is_found_again_has_its_answer(intake: Intake) -> None:
    first = intake.append(keys=[keyed("k", put("a"))])
    await settle()
    intake.log.faults.plan("append reply", OutcomeUnknown("lost"))
    again = intake.append("b", keys=[keyed("k", put("a"))])
    await intake.clock.advance(1.0)
    (known,) = answer(again).keyed
    assert (known.fresh, known.position) == (False, answer(first).keyed[0].position)


async def test_a_full_buffer_refuses_and_opens_again_only_well_below_its_bound() -> None:
    intake = await Intake(bounds=Bounds(10, 100_000, 500, 50_000, 4.0)).start()
    intake.append(*"abcdefgh")
    await settle()
    for ids, fits in ((["i", "j"], True), (["k"], False)):
        call = intake.append(*ids)
        await settle()
        if fits:
            assert answer(call)
        else:
            with pytest.raises(QueueFull, match="10 writes"):
                answer(call)
    assert not intake.inflow.ready
    for resolved, fits in ((1, False), (8, True)):
        intake.backlog.writes -= resolved  # as if so many had been drained
        call = intake.append("k")
        await settle()
        assert (call.exception() is None) == fits, resolved
    await intake.stop()


async def test_a_large_call_that_was_refused_once_is_taken_when_there_is_room() -> None:
    """It fills more than the mark at which a full buffer opens again: that mark is for what is held already."""
    intake = await Intake(bounds=Bounds(10, 100_000, 500, 50_000, 4.0)).start()
    intake.append(*"abcde")
    await settle()
    for resolved, fits in ((0, False), (4, True)):
        intake.backlog.writes -= resolved
        call = intake.append(*"fghijklmn")
        await settle()
        assert (call.exception() is None) == fits, resolved
    await intake.stop()


async def test_a_batch_under_a_key_counts_as_what_it_holds() -> None:
    """As one write, four megabytes of small documents would go over the bound by forty thousand."""
    intake = await Intake(bounds=Bounds(10, 100_000, 500, 50_000, 4.0)).start()
    intake.append(*"abcdefgh")
    await settle()
    for ids, fits in (("ij", True), ("ijk", False)):
        call = intake.append(keys=[keyed(ids, *map(put, ids))])
        await settle()
        if fits:
            assert answer(call).keyed[0].fresh
            intake.backlog.writes -= 2  # as if so many had been drained
        else:
            with pytest.raises(QueueFull):
                answer(call)
    await intake.stop()


async def test_bytes_are_bounded_too() -> None:
    intake = await Intake(bounds=Bounds(1_000, 200, 500, 50_000, 4.0)).start()
    first = intake.append(*"abc")
    await settle()
    assert answer(first)
    for keys, ids in (((), "defghijk"), ([keyed("k", *map(put, "defghijk"))], "")):
        more = intake.append(*ids, keys=keys)
        await settle()
        with pytest.raises(QueueFull):
            answer(more)
    await intake.stop()


async def test_what_waits_for_the_log_counts_as_held_even_when_its_caller_has_gone() -> None:
    intake, log = await slow_intake(Bounds(10, 100_000, 500, 50_000, 4.0))
    gone = intake.append(*"abcdefgh")
    await settle()
    gone.cancel()
    await settle()
    refused = intake.append(*"ijk")
    await settle()
    with pytest.raises(QueueFull):
        answer(refused)
    log.synced.set()
    await settle()
    assert intake.logged == [list("abcdefgh")], "an append that has begun is not undone by a caller that goes away"
    await intake.stop()


async def test_a_call_that_is_over_holds_no_room_however_it_ended() -> None:
    """Else the buffer would be full for ever, and never drained."""
    ids, extra = ["a", "b", "c"], (put("d"), put("e"))
    size = len(encode_writes([*map(put, ids), *extra]))
    intake = await Intake(bounds=Bounds(9, 2 * size - 1, 500, 50_000, 4.0)).start()
    for number, fault in enumerate([None, LogUnavailable("refused")] * 2):
        if fault is not None:
            intake.log.faults.plan("append", fault)
        call = intake.append(*ids, keys=[keyed(f"k{number}", *extra)])
        await intake.clock.advance(1.0)
        assert call.exception() is fault
        idle = asyncio.create_task(intake.inflow.idle())
        await settle()
        assert idle.done()
        intake.backlog.writes = intake.backlog.bytes = 0  # as if all had been drained
    await intake.stop()


async def test_a_call_that_there_is_no_memory_to_note_holds_no_room(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the buffer would have less room for good, and a drain would wait for it for ever."""

    class Full(deque[Call]):
        def append(self, call: Call) -> None:
            raise MemoryError

    with monkeypatch.context() as starved:
        starved.setattr(intake.inflow, "_calls", Full())
        refused = intake.append("a")
        await settle()
        assert isinstance(refused.exception(), MemoryError)
    kept = intake.append("b")
    await settle()
    assert kept.done()
    assert intake.inflow._room.waiting_writes == 0
    idle = asyncio.create_task(intake.inflow.idle())
    await settle()
    assert idle.done()


async def test_retry_after_is_what_the_drain_will_take() -> None:
    intake = await Intake(bounds=Bounds(1_000, 1_000_000, 1_000, 50_000, 4.0)).start()
    intake.append(*(str(i) for i in range(1_000)))
    await settle()
    intake.drained.note(intake.clock.now_ns(), 25)  # in the second since the drain began
    refused = intake.append("x")
    await settle()
    error = refused.exception()
    assert isinstance(error, QueueFull)
    assert error.retry_after_s == pytest.approx((1_001 - 800) / 25.0)
    await intake.stop()


async def test_retry_after_counts_the_writes_that_are_there_when_bytes_are_the_bound() -> None:
    intake = await Intake(bounds=Bounds(1_000_000, 2_000, 1_000, 50_000, 4.0)).start()
    intake.append("x" * 900)
    await settle()
    intake.drained.note(intake.clock.now_ns(), 1)
    refused = intake.append("y" * 120)
    await settle()
    error = refused.exception()
    assert isinstance(error, QueueFull)
    assert error.retry_after_s == 1.0  # two writes at one a second, and not a fifth of the million that might be
    await intake.stop()


async def test_a_draining_buffer_takes_nothing_new(intake: Intake) -> None:
    intake.inflow.draining = True
    call = intake.append("a")
    await settle()
    with pytest.raises(Draining):
        answer(call)
    assert not intake.inflow.ready


async def test_a_buffer_whose_stream_has_a_newer_owner_ends(intake: Intake) -> None:
    await intake.log.another().open()
    call = intake.append("a")
    await settle()
    with pytest.raises(BufferUnavailable):
        answer(call)
    assert intake.run is not None
    with pytest.raises(Fenced):
        answer(intake.run)
    late = intake.append("b")
    await settle()
    with pytest.raises(LogUnavailable):
        answer(late)
    assert intake.logged == []


async def test_an_idle_buffer_whose_stream_has_a_newer_owner_ends_within_a_second(intake: Intake) -> None:
    """Else it would answer reads from a backlog in which the newer writes are missing."""
    await intake.log.another().open()
    await ends_fenced(intake)


async def test_an_old_owner_does_not_take_the_stream_back_after_a_doubt(intake: Intake) -> None:
    intake.log.faults.plan("append", OutcomeUnknown("lost"))
    call = intake.append("a")
    newer = intake.log.another()
    await newer.open()
    await ends_fenced(intake)
    with pytest.raises(OutcomeUnknown):
        answer(call)
    assert (await newer.append(encode_writes([put("b")]))).position


async def test_calls_that_wait_when_the_buffer_stops_are_answered() -> None:
    intake, _ = await slow_intake()
    begun = intake.append("a")
    await settle()
    waiting = intake.append("b")
    await settle()
    await end(intake.run)
    await settle()
    with pytest.raises(OutcomeUnknown):
        answer(begun)
    with pytest.raises(BufferUnavailable):
        answer(waiting)


async def test_a_payload_that_could_not_be_read_back_never_gets_into_the_log(intake: Intake) -> None:
    one = encode_writes([put("a")])
    for payload, plain, writes in ((b"\x00\x01", 1, 1), (one, 1, 2), (one, 2, 1)):
        with pytest.raises(MalformedPayload):
            await intake.inflow.append(only_call(plain), payload, writes)
    assert intake.logged == []
    call = intake.append("b")
    await settle()
    assert answer(call)


async def test_a_call_of_every_kind_of_write_is_mirrored_as_it_is_logged() -> None:
    service = await Service().start()
    await service.keep(insert("a", n=1), put("b", n=1), patch("b", n=2), delete("a"))
    await service.clock.advance(1.0)
    assert service.stored == {"b": {"n": 2}}
    await service.stop()

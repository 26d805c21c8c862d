"""The lanes from a replica to a buffer, when what cannot be foreseen happens: nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast
from weakref import WeakSet

import pytest
from composed import answer
from loop_clock import stop_clock

from actors import lane as lanes
from actors import read_lane
from actors.adapters.clock import settle
from actors.appends import Kept
from actors.calls import ActorAway, ActorGone, Remote
from actors.core.arrivals import LaneCall
from actors.core.document import Kind, Write, decode_writes
from actors.core.errors import (
    AnswerTooLarge,
    BufferUnavailable,
    DatabaseUnavailable,
    IdempotencyConflict,
    IdempotencyFull,
    LogUnavailable,
    OutcomeUnknown,
    QueueFull,
    SpillwayError,
    TooLarge,
    UnsafeLog,
)
from actors.core.intake import Found, State
from actors.core.ports import Keyed, KeyedAnswer, Resolved
from actors.core.position import order
from actors.core.receipt import Receipt
from actors.core.sharding import shard_of
from actors.lane import Lane
from actors.read_lane import ReadLane
from actors.remote_intake import RemoteIntake
from actors.watch import Watch


class Scripted:
    """A buffer that answers what it is told to, in turn; the last for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls = 0

    async def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        self.calls += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


def remote(*answers: Any) -> Remote:
    return cast(Remote, Scripted(*answers))


def place(position: str, first: int) -> tuple[str, int]:
    return position, first


async def test_what_may_have_been_kept_is_never_told_to_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt may be in the log; that the next finds an unsafe Redis does not take it out again."""
    advance = stop_clock(monkeypatch)
    away = [ActorAway("killed", began=True), ActorAway("still reading")]
    buffer = Scripted(*away, UnsafeLog("appendfsync is everysec"))
    lane = Lane(cast(Remote, buffer), timeout_s=5.0)
    asked = lane.append(b"x", 1, place)
    await settle()
    await advance(0.05)
    later = lane.append(b"y", 1, place)
    await advance(0.1)
    assert buffer.calls == 3
    with pytest.raises(OutcomeUnknown, match="everysec"):
        answer(asked)
    await advance(0.01)
    with pytest.raises(UnsafeLog):  # nobody had been asked for it before
        answer(later)


async def test_a_restart_is_hidden_from_whoever_can_wait_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    advance = stop_clock(monkeypatch)
    away = [ActorAway("killed", began=True), ActorAway("still reading")]
    buffer = Scripted(*away, Kept("1-0", 0, []), Kept("1-1", 0, []))
    lane = Lane(cast(Remote, buffer), timeout_s=5.0)
    asked = [lane.append(b"x", 2, place)]
    await settle()
    asked.append(lane.append(b"y", 1, place))
    await advance(0.04)
    assert buffer.calls == 1, "a process that starts needs the CPU itself"
    for _ in range(2):
        await advance(0.1)
    await advance(0.01)
    assert [answer(call) for call in asked] == [("1-0", 0), ("1-1", 0)]
    assert buffer.calls == 4


@pytest.mark.parametrize(("began", "error"), [(True, OutcomeUnknown), (False, BufferUnavailable)])
async def test_each_is_told_when_its_own_time_is_up(
    monkeypatch: pytest.MonkeyPatch, began: bool, error: type[Exception]
) -> None:
    """Whoever came later too, and not only when those before it have been tried for all of theirs: the edge would have
    answered 504 by then, whatever is known here."""
    advance = stop_clock(monkeypatch)
    buffer = Scripted(ActorAway("there is no actor", began=began))
    lane = Lane(cast(Remote, buffer), timeout_s=5.0)
    calls = []
    for _ in range(5):
        calls.append(lane.append(b"x", 1, place))
        await advance(0.9)
    for _ in range(2):
        await advance(0.5)
    assert [call.done() for call in calls] == [True, False, False, False, False]
    for _ in range(8):
        await advance(0.5)
    for call in calls:
        with pytest.raises(error, match="there is no actor"):
            answer(call)
    tried = buffer.calls
    await advance(5.0)
    assert buffer.calls == tried, "nobody waits"


async def test_who_waits_behind_a_call_that_hangs_is_told_that_nothing_was_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    advance = stop_clock(monkeypatch)
    buffer = Gated()
    lane = Lane(cast(Remote, buffer), timeout_s=5.0)
    first = lane.append(b"x", 1, place)
    await settle()
    second = lane.append(b"x", 1, place)
    await advance(5.0)
    buffer.away = ActorAway("did not answer", began=True)
    buffer.gate.set()
    await settle()
    await advance(0.1)
    with pytest.raises(OutcomeUnknown):
        answer(first)
    with pytest.raises(BufferUnavailable):
        answer(second)
    assert buffer.calls == 1


async def test_a_buffer_that_is_back_is_no_reason_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    advance = stop_clock(monkeypatch)
    buffer = Gated(pause_s=0.2)
    buffer.away = ActorAway("killed")
    buffer.gate.set()
    lane = Lane(cast(Remote, buffer), timeout_s=5.0)
    lane.append(b"x", 1, place)
    await settle()
    buffer.away = None
    await advance(0.1)
    await advance(0.3)
    buffer.gate.clear()
    lane.append(b"x", 1, place)
    await settle()
    late = lane.append(b"x", 1, place)
    await advance(4.9)
    buffer.gate.set()
    await settle()
    await advance(0.2)
    with pytest.raises(BufferUnavailable, match="others were before it"):
        answer(late)


async def test_nobody_waits_for_a_buffer_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended for another version, say: nobody restarts it. Whoever comes later is told so soon, and not by one question
    to Ray each."""
    advance = stop_clock(monkeypatch)
    buffer = Scripted(ActorGone("there is no buffer any more"))
    lane = Lane(cast(Remote, buffer), timeout_s=60.0)
    asked = lane.append(b"x", 1, place)
    await settle()
    with pytest.raises(BufferUnavailable, match="no buffer any more"):
        answer(asked)
    later = [lane.append(b"x", 1, place) for _ in range(100)]
    await advance(0.5)
    for call in later:
        with pytest.raises(BufferUnavailable):
            answer(call)
    assert buffer.calls == 2


async def test_what_a_buffer_had_begun_before_it_was_ended_is_not_told_to_be_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    advance = stop_clock(monkeypatch)
    buffer = Scripted(ActorAway("killed", began=True), ActorGone("there is no buffer any more"))
    asked = Lane(cast(Remote, buffer), timeout_s=60.0).append(b"x", 1, place)
    await settle()
    await advance(0.5)
    with pytest.raises(OutcomeUnknown, match="no buffer any more"):
        answer(asked)


async def test_an_unsafe_log_at_the_first_attempt_is_a_clear_no() -> None:
    with pytest.raises(UnsafeLog):
        await Lane(remote(UnsafeLog("appendfsync is everysec")), timeout_s=5.0).append(b"x", 1, place)


async def test_what_no_call_can_carry_is_refused_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as if there were no room just now, or as if it might have been kept."""
    monkeypatch.setattr(lanes, "MAX_REQUEST_BYTES", 100)
    lane = Lane(remote(Kept("1-0", 0, [])), timeout_s=5.0)
    with pytest.raises(TooLarge, match="101 bytes"):
        await lane.append(b"x" * 101, 1, place)
    with pytest.raises(TooLarge):
        await lane.append_keyed(Keyed("k", "f", b"x" * 101), 1)
    assert await lane.append(b"x" * 100, 1, place) == ("1-0", 0)


async def test_calls_do_not_leave_right_behind_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs as much as several requests: a hundred that come one by one would be a hundred calls."""
    advance = stop_clock(monkeypatch)
    buffer = Scripted(Kept("1-0", 0, []))
    lane = Lane(cast(Remote, buffer), timeout_s=5.0)
    await lane.append(b"x", 1, place)
    assert buffer.calls == 1  # at once
    later = []
    for _ in range(100):
        later.append(lane.append(b"x", 1, place))
        await settle()
    assert buffer.calls == 1
    await advance(lanes.SPACING_S)
    assert [position for position, _ in await asyncio.gather(*later)] == ["1-0"] * 100
    assert buffer.calls == 2


async def test_a_buffer_that_fills_gets_a_pause_for_each_write(monkeypatch: pytest.MonkeyPatch) -> None:
    advance = stop_clock(monkeypatch)
    buffer = Scripted(Kept("1-0", 0, [], pause_s=0.01))
    lane = Lane(cast(Remote, buffer), timeout_s=5.0)
    await lane.append(b"x", 10, place)
    later = lane.append(b"x", 1_000, place)
    await advance(0.09)
    assert buffer.calls == 1
    await advance(0.02)  # ten times 0.01 s have passed
    assert buffer.calls == 2
    assert later.done()
    last = lane.append(b"x", 1, place)
    await advance(0.24)
    assert buffer.calls == 2
    await advance(0.02)  # not ten seconds: a quarter of one at most
    assert buffer.calls == 3
    assert last.done()


async def test_a_pause_that_was_asked_for_begins_with_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    advance = stop_clock(monkeypatch)
    buffer = Gated(pause_s=0.1)
    lane = Lane(cast(Remote, buffer), timeout_s=5.0)
    calls = [lane.append(b"x", 1, place)]
    await settle()
    calls.append(lane.append(b"x", 1, place))
    await advance(0.5)
    buffer.gate.set()
    await settle()
    await advance(0.09)
    assert buffer.calls == 1
    await advance(0.02)
    assert [answer(call) for call in calls] == [("1-0", 0)] * 2


async def test_what_comes_while_a_call_is_under_way_shares_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes: two at once would each carry half, and cost as much each."""
    advance = stop_clock(monkeypatch)
    buffer = Gated()
    lane = Lane(cast(Remote, buffer), timeout_s=5.0)
    first = lane.append(b"x", 1, place)
    others = []
    for _ in range(10):
        await advance(0.1)
        others.append(lane.append(b"x", 1, place))
    assert buffer.calls == 1
    buffer.gate.set()
    await advance(lanes.SPACING_S)
    assert [answer(call) for call in (first, *others)] == [("1-0", 0), *(("1-0", at) for at in range(10))]
    assert buffer.calls == 2


class Gated:
    """A buffer that answers when its gate is open."""

    name = "gated"

    def __init__(self, pause_s: float = 0.0) -> None:
        self.gate = asyncio.Event()
        self.calls = 0
        self.pause_s = pause_s
        self.away: ActorAway | None = None

    async def call(self, method: str, *arguments: Any, timeout_s: float) -> Kept:
        self.calls += 1
        await self.gate.wait()
        if self.away is not None:
            raise self.away
        return Kept("1-0", 0, [], self.pause_s)


async def test_what_waits_for_a_buffer_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A buffer that hangs would fill the memory of every replica."""
    monkeypatch.setattr(lanes, "MAX_WAITING_BYTES", 100)
    monkeypatch.setattr(lanes, "SPACING_S", 0.0)
    buffer = Gated()
    lane = Lane(cast(Remote, buffer), timeout_s=5.0)
    taken = []
    for size in (1, 60, 40):  # the first is under way, and waits no more
        taken.append(lane.append(b"x" * size, 1, place))
        await settle()
    with pytest.raises(QueueFull, match="100 bytes wait"):
        lane.append(b"x", 1, place)
    buffer.gate.set()
    await settle()
    assert [answer(call) for call in taken] == [("1-0", 0), ("1-0", 0), ("1-0", 1)]
    assert await lane.append(b"x" * 100, 1, place) == ("1-0", 0)


async def test_a_call_carries_so_many_bytes_and_the_rest_goes_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "MAX_CALL_BYTES", 100)
    monkeypatch.setattr(lanes, "SPACING_S", 0.0)
    buffer = Scripted(Kept("1-0", 0, []))
    lane = Lane(cast(Remote, buffer), timeout_s=5.0)
    calls = [lane.append(b"x" * size, 1, place) for size in (60, 40, 1, 100, 200)]
    assert [first for _, first in await asyncio.gather(*calls)] == [0, 1, 0, 0, 0]
    assert buffer.calls == 4


async def test_a_lane_that_could_not_send_sends_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lane = Lane(remote(Kept("1-0", 0, [])), timeout_s=5.0)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    create_task: Callable[..., Any] = asyncio.create_task

    def no_memory(work: Any) -> None:
        work.close()
        raise MemoryError

    monkeypatch.setattr(asyncio, "create_task", no_memory)
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            await lane.append(b"x", 1, place)
    monkeypatch.setattr(asyncio, "create_task", create_task)
    assert await lane.append(b"x", 1, place) == ("1-0", 0)


async def test_a_call_whose_task_could_not_be_noted_is_not_under_way_beside_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """asyncio runs it all the same. Two calls at once would be one too many: the buffer knows a lane by its last."""
    buffer = Gated()
    lane = Lane(cast(Remote, buffer), timeout_s=5.0)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    with monkeypatch.context() as starved:
        starved.setattr(WeakSet, "add", no_memory)
        first = lane.append(b"x", 1, place)
        await settle()
    with pytest.raises(OutcomeUnknown):
        answer(first)
    assert buffer.calls == 0
    buffer.gate.set()
    assert await lane.append(b"y", 1, place) == ("1-0", 0)


@pytest.mark.parametrize("lacking", ["LaneCall", "_Call"])
async def test_a_call_that_cannot_be_made_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    lane = Lane(remote(Kept("1-0", 0, [])), timeout_s=5.0)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    with monkeypatch.context() as starved:
        starved.setattr(lanes, lacking, no_memory)
        asked = [lane.append(b"x", 1, place) for _ in range(2)]
        await settle()
    assert all(one.done() and isinstance(one.exception(), OutcomeUnknown) for one in asked)
    assert await lane.append(b"x", 1, place) == ("1-0", 0)


@pytest.mark.parametrize("began", [True, False])
async def test_who_could_not_be_told_that_the_time_is_up_is_told_later(
    monkeypatch: pytest.MonkeyPatch, began: bool
) -> None:
    advance = stop_clock(monkeypatch)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    lane = Lane(remote(ActorAway("killed", began=began)), timeout_s=0.1)
    asked = [lane.append(b"x", 1, place) for _ in range(2)]
    await settle()
    with monkeypatch.context() as starved:
        starved.setattr(lanes, "BufferUnavailable", no_memory)
        await advance(1.0)
    asked.append(lane.append(b"x", 1, place))
    for _ in range(2):
        await advance(1.0)
    assert [type(one.exception()) for one in asked[:2]] == [OutcomeUnknown if began else BufferUnavailable] * 2
    assert asked[2].done()


def no_memory(*_: Any) -> None:
    raise MemoryError


async def test_an_append_goes_on_when_nobody_waits_for_it_any_more() -> None:
    buffer = Gated()
    lane = Lane(cast(Remote, buffer), timeout_s=5.0)
    gone, other = lane.append(b"x", 2, place), lane.append(b"y", 1, place)
    gone.cancel()
    await settle()
    buffer.gate.set()
    assert await other == ("1-0", 2), "behind the two writes of whoever has gone"
    assert buffer.calls == 1


async def test_an_answer_that_cannot_be_made_leaves_nobody_waiting() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    lane = Lane(remote(Kept("1-0", 0, [])), timeout_s=5.0)
    for answer_ in (lane.append(b"x", 1, no_memory), lane.append(b"y", 1, place)):
        with pytest.raises(OutcomeUnknown):
            await answer_
    assert await lane.append(b"x", 1, place) == ("1-0", 0)


async def test_what_cannot_be_put_back_into_the_line_leaves_nobody_waiting() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)

    class Unspeakable(ActorAway):
        def __str__(self) -> str:
            raise MemoryError

    lane = Lane(remote(Unspeakable(began=True), Kept("1-0", 0, [])), timeout_s=5.0)
    with pytest.raises(OutcomeUnknown):
        await lane.append(b"x", 1, place)
    assert await lane.append(b"x", 1, place) == ("1-0", 0)


async def test_a_read_that_was_cut_short_is_told() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    lane = ReadLane(remote(MemoryError(), [Found(b"x", [], "buffer")]), "read", 5.0, DatabaseUnavailable)
    (told,) = await lane.read("d.c", ["a"])
    assert isinstance(told, BufferUnavailable)
    assert "cut short" in told.message
    assert await lane.read("d.c", ["a"]) == [Found(b"x", [], "buffer")]


class Shelf:
    """A buffer that answers each id with itself, and notes how many were asked for at once."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    async def call(self, method: str, namespace: str, ids: list[str], *, timeout_s: float) -> list[Found]:
        await asyncio.sleep(0)
        self.asked.append((namespace, len(ids)))
        return [Found(id_.encode(), [], "buffer") for id_ in ids]


async def test_one_answer_carries_so_many_documents_and_other_collections_get_their_turn() -> None:
    """All of a hundred readers would be refused when theirs together are more than a channel carries."""
    buffer = Shelf()
    lane = ReadLane(cast(Remote, buffer), "read", 5.0, DatabaseUnavailable)
    ids = [str(number) for number in range(120)]
    many, one = await asyncio.gather(lane.read("d.c", ids), lane.read("d.other", ["x"]))
    assert many == [Found(id_.encode(), [], "buffer") for id_ in ids]
    assert one == [Found(b"x", [], "buffer")]
    assert buffer.asked == [("d.c", 50), ("d.other", 1), ("d.c", 50), ("d.c", 20)]


class Heavy(Shelf):
    """More than three of its documents do not fit into an answer, and "huge" not even alone."""

    async def call(self, method: str, namespace: str, ids: list[str], *, timeout_s: float) -> list[Found]:
        found = await super().call(method, namespace, ids, timeout_s=timeout_s)
        if len(ids) > 3 or "huge" in ids:
            raise AnswerTooLarge("more than a channel carries")
        return found


async def test_documents_that_are_too_much_for_one_answer_come_in_several() -> None:
    ids = ["a", "b", "c", "huge", "d", "e", "f"]
    lane = ReadLane(cast(Remote, Heavy()), "read", 5.0, DatabaseUnavailable)
    answers = dict(zip(ids, await lane.read("d.c", ids), strict=True))
    assert isinstance(answers.pop("huge"), BufferUnavailable)
    assert answers == {id_: Found(id_.encode(), [], "buffer") for id_ in "abcdef"}


class Full(Shelf):
    """Only the first three of its documents fit into an answer."""

    async def call(self, method: str, namespace: str, ids: list[str], *, timeout_s: float) -> list[Any]:
        found = await super().call(method, namespace, ids, timeout_s=timeout_s)
        return [*found[:3], *(AnswerTooLarge("others before it") for _ in ids[3:])]


async def test_what_an_answer_has_carried_is_not_asked_for_again_and_then_fewer_are_at_once() -> None:
    """Each document is read from MongoDB once, however many answers it takes."""
    buffer = Full()
    lane = ReadLane[Found](cast(Remote, buffer), "read", 5.0, DatabaseUnavailable)
    ids = [str(number) for number in range(17)]
    assert await lane.read("d.c", ids) == [Found(id_.encode(), [], "buffer") for id_ in ids]
    assert [many for _, many in buffer.asked] == [17, 3, 6, 3, 5, 2]


class Tiers:
    """A buffer that holds "kept"; what else there is only MongoDB knows, which hangs until `go_on`."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.asked: list[list[str]] = []

    async def call(self, method: str, namespace: str, ids: list[str], *, timeout_s: float) -> list[Found | None]:
        if method == "read_near":
            return [Found(b"x", [], "buffer") if id_ == "kept" else None for id_ in ids]
        self.asked.append(ids)
        await self.go_on.wait()
        return [Found(None, [], "mongodb") for _ in ids]


async def test_what_is_still_on_its_way_is_read_while_others_wait_for_mongodb() -> None:
    buffer = Tiers()
    intake = RemoteIntake([cast(Remote, buffer)], ["0of1"], remote(None), timeout_s=1.0)
    absent = asyncio.create_task(intake.read("d.c", ["kept", "absent"]))
    await settle()
    assert await intake.read("d.c", ["kept"]) == [Found(b"x", [], "buffer")]
    assert not absent.done()
    buffer.go_on.set()
    assert await absent == [Found(b"x", [], "buffer"), Found(None, [], "mongodb")]
    assert buffer.asked == [["absent"]]


async def test_a_read_waits_so_long_and_is_not_asked_for_when_its_readers_have_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    advance = stop_clock(monkeypatch)
    buffer = Tiers()
    lane = ReadLane(cast(Remote, buffer), "read", 10.0, DatabaseUnavailable)
    first = asyncio.create_task(lane.read("d.c", ["first"]))
    await settle()
    await advance(6.0)  # its call has left, and the others wait for the next
    gone, second = (asyncio.create_task(lane.read("d.c", [id_])) for id_ in ("gone", "second"))
    await settle()
    gone.cancel()
    await advance(5.0)
    assert isinstance(answer(first)[0], DatabaseUnavailable)
    assert not second.done()
    buffer.go_on.set()
    await advance(0.1)
    assert answer(second) == [Found(None, [], "mongodb")]
    assert buffer.asked == [["first"], ["second"]]


async def test_so_many_reads_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_lane, "MAX_WAITING", 3)
    buffer = Tiers()
    lane = ReadLane(cast(Remote, buffer), "read", 10.0, DatabaseUnavailable)
    under_way = asyncio.create_task(lane.read("d.c", ["first"]))
    await settle()
    waiting = [asyncio.create_task(lane.read("d.c", [id_])) for id_ in ("second", "third", "fourth", "fifth")]
    await settle()
    buffer.go_on.set()
    await settle()
    assert [type(answer(task)[0]) for task in (under_way, *waiting)] == [*[Found] * 4, DatabaseUnavailable]
    assert await lane.read("d.c", ["a"]) == [Found(None, [], "mongodb")]


async def test_a_stream_that_no_pool_can_have_is_unknown() -> None:
    """A superscript two is a digit to Python, and no number."""
    intake = RemoteIntake([remote(None)], ["0of1"], remote(None), timeout_s=1.0)
    assert (await intake.state(Receipt("\u00b2of1", "1-0", 0, "d.c", "x"))).name == "unknown"


async def test_the_receipt_of_an_older_pool_is_looked_up_at_the_heir_of_its_stream() -> None:
    buffers = [remote([State("unknown")]), remote([State("logged")])]
    intake = RemoteIntake(buffers, ["0of2", "1of2"], remote(None), timeout_s=1.0)
    assert (await intake.state(Receipt("3of4", "1-0", 0, "d.c", "x"))).name == "logged"


async def test_whoever_polls_receipts_shares_a_call_with_all_others() -> None:
    """Two thousand calls at once would keep appends waiting, on the way to the buffer and there."""
    asked: list[int] = []

    async def call(method: str, stream: str, places: list[str], *, timeout_s: float) -> list[State | SpillwayError]:
        await asyncio.sleep(0)
        asked.append(len(places))
        return [LogUnavailable("no") if place == "7-0/7" else State("dead-lettered", place) for place in places]

    intake = RemoteIntake([cast(Remote, SimpleNamespace(call=call))], ["0of1"], remote(None), timeout_s=1.0)
    receipts = [Receipt("0of1", f"{number}-0", number, "d.c", "x") for number in range(1_000)]
    states = await asyncio.gather(*map(intake.state, receipts), return_exceptions=True)
    assert isinstance(states.pop(7), LogUnavailable)
    assert states == [State("dead-lettered", f"{number}-0/{number}") for number in range(1_000) if number != 7]
    assert asked == [50] * 20


class Resolving:
    """A buffer that tells how far it is, when it is asked to go on."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def call(self, method: str, *arguments: Any, timeout_s: float) -> Resolved:
        assert method == "wait_for"
        await self.go_on.wait()
        return Resolved("2-0", "0-0", {"2-0/7": "no"})


async def test_what_is_not_resolved_in_time_is_in_the_log_and_no_more() -> None:
    intake = RemoteIntake([cast(Remote, Resolving())], ["0of1"], remote(None), timeout_s=1.0)
    assert await intake.wait([Receipt("0of1", "1-0", 0, "d.c", "x")], 0.0) == [State("logged")]


async def test_to_wait_for_a_thousand_writes_of_one_entry_is_to_wait_once() -> None:
    """A task and a timer for each would be a hundred megabytes for two hundred such batches."""
    buffer = Resolving()
    intake = RemoteIntake([cast(Remote, buffer)], ["0of1"], remote(None), timeout_s=1.0)
    receipts = [Receipt("0of1", position, offset, "d.c", "x") for position in ("1-0", "2-0") for offset in range(500)]
    before = len(asyncio.all_tasks())
    waiting = asyncio.create_task(intake.wait(receipts, 5.0))
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) - before < 10
    buffer.go_on.set()
    states = await waiting
    assert [at for at, state in enumerate(states) if state == State("dead-lettered", "no")] == [507]
    assert sum(state == State("stored") for state in states) == 999


async def test_who_waits_for_mongodb_goes_on_waiting_when_the_buffer_is_restarted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    yield_to_others = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda delay: yield_to_others(0))
    buffer = remote(ActorAway("killed", began=True), Resolved("1-0", "0-0", {}))
    intake = RemoteIntake([buffer], ["0of1"], remote(None), timeout_s=1.0)
    waiting = asyncio.create_task(intake.wait([Receipt("0of1", "1-0", 0, "d.c", "x")], 5.0))
    await settle()
    assert answer(waiting) == [State("stored")]


async def test_what_was_refused_so_long_ago_that_the_buffer_has_forgotten_is_looked_up() -> None:
    """A buffer remembers so many rejections; what it does not name may be one that is older."""

    async def call(method: str, *arguments: Any, timeout_s: float) -> Resolved | list[State]:
        if method == "wait_for":
            return Resolved("3-0", "1-0", {})
        return [State("dead-lettered", f"it was {place}") for place in arguments[1]]

    intake = RemoteIntake([cast(Remote, SimpleNamespace(call=call))], ["0of1"], remote(None), timeout_s=1.0)
    receipts = [Receipt("0of1", position, 0, "d.c", "x") for position in ("1-0", "2-0")]
    assert await intake.wait(receipts, 5.0) == [State("dead-lettered", "it was 1-0/0"), State("stored")]


async def test_what_is_stored_long_since_does_not_wait_behind_a_newer_write() -> None:
    """A request repeated under its key, while MongoDB is away and others wait for it."""
    buffer = Resolving()
    buffer.go_on.set()
    intake = RemoteIntake([cast(Remote, buffer)], ["0of1"], remote(None), timeout_s=1.0)
    old, new = (Receipt("0of1", position, 0, "d.c", "x") for position in ("1-0", "3-0"))
    assert await intake.wait([old], 5.0) == [State("stored")]
    buffer.go_on.clear()
    newer = asyncio.create_task(intake.wait([new], 5.0))
    await settle()
    older = asyncio.create_task(intake.wait([old], 5.0))
    await settle()
    assert answer(older) == [State("stored")]
    assert not newer.done()
    newer.cancel()


class Pouring:
    """A buffer whose stream is resolved up to where a test says, and which tells so when that is far enough."""

    def __init__(self) -> None:
        self.resolved = "0-0"
        self.changed = asyncio.Condition()
        self.asked: list[str] = []

    async def resolve(self, position: str) -> None:
        async with self.changed:
            self.resolved = position
            self.changed.notify_all()
        await settle()

    async def call(self, method: str, position: str, poll_s: float, *, timeout_s: float) -> Resolved:
        self.asked.append(position)
        async with self.changed:
            await self.changed.wait_for(lambda: order(self.resolved) >= order(position))
        return Resolved(self.resolved, "0-0", {})


async def test_who_comes_later_for_an_older_write_does_not_wait_for_the_newer_one() -> None:
    """A request repeated under its key while others wait: MongoDB comes back, stores the old one, and goes again."""
    buffer = Pouring()
    watch = Watch(cast(Remote, buffer))
    newer = asyncio.create_task(watch.until("3-0", 60.0))
    await settle()
    older = asyncio.create_task(watch.until("1-0", 60.0))
    await settle()
    await buffer.resolve("1-0")
    assert answer(older).position == "1-0"
    assert not newer.done()
    await buffer.resolve("3-0")
    assert answer(newer).position == "3-0"
    assert buffer.asked == ["3-0", "1-0", "3-0"]


async def test_whoever_asks_again_and_again_for_what_mongodb_does_not_take_costs_one_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Requests under known keys, each with a wait, while MongoDB is away: no bound of the backlog counts them."""
    advance = stop_clock(monkeypatch)
    buffer = Pouring()
    watch = Watch(cast(Remote, buffer))
    oldest = asyncio.create_task(watch.until("1-0", 3_600.0))
    await settle()
    for _ in range(20):
        asked = [asyncio.create_task(watch.until(f"{number}-0", 1.0)) for number in range(2, 52)]
        await settle()
        await advance(1.1)
        assert [answer(task) for task in asked] == [None] * 50
    assert len(watch._line) == len(watch._places) == 51
    again = asyncio.create_task(watch.until("30-0", 60.0))
    await settle()
    await buffer.resolve("1-0")
    assert answer(oldest).position == "1-0"
    assert buffer.asked == ["1-0", "30-0"], "nobody waits for those between"
    await buffer.resolve("51-0")
    assert answer(again).position == "51-0"
    assert not watch._line
    assert not watch._places


class Records:
    """What the buffers of all pools share in Redis: the idempotency records; and what they have kept."""

    def __init__(self, most: int = 1_000) -> None:
        """`most`: so many keys are remembered."""
        self.most = most
        self.known: dict[str, tuple[str, str]] = {}
        self.kept: list[str] = []

    def buffer(self, stream: str, *, away: bool = False) -> Remote:
        return cast(Remote, RecordingBuffer(self, stream, away))

    def pool(self, shards: int, *away: int) -> RemoteIntake:
        streams = [f"{index}of{shards}" for index in range(shards)]
        buffers = [self.buffer(stream, away=index in away) for index, stream in enumerate(streams)]
        return RemoteIntake(buffers, streams, remote(None), timeout_s=0.05)


class RecordingBuffer:
    def __init__(self, records: Records, stream: str, away: bool) -> None:
        self.records, self.stream, self.away = records, stream, away

    async def call(
        self, method: str, sent: LaneCall, payload: bytes, writes: int, keyed: list[Keyed], *, timeout_s: float
    ) -> Kept:
        if self.away:
            raise ActorAway("on its way back")
        assert writes == len(decode_writes(payload)) + sum(len(decode_writes(item.payload)) for item in keyed)
        return Kept("", 0, [self._answer(item) for item in keyed])

    def _answer(self, item: Keyed) -> KeyedAnswer:
        fingerprint, position = self.records.known.get(item.key, ("", ""))
        if position:
            return KeyedAnswer(position, fresh=False, conflict=fingerprint != item.fingerprint)
        if len(self.records.known) == self.records.most:
            return KeyedAnswer("", fresh=False, full=True)
        position = f"{self.stream}/{len(self.records.kept)}-0"
        self.records.known[item.key] = (item.fingerprint, position)
        self.records.kept += [write.id for write in decode_writes(item.payload)]
        return KeyedAnswer(position, fresh=True)


BATCH = [Write(Kind.INSERT, "d.c", f"id{number}", b"x") for number in range(20)]


async def test_a_batch_under_a_key_is_kept_once() -> None:
    records = Records()
    for _ in range(2):
        receipts, _ = await records.pool(2).append_once("key", "f", BATCH)
        assert [receipt.id for receipt in receipts] == [write.id for write in BATCH]
    assert sorted(records.kept) == sorted(write.id for write in BATCH)
    with pytest.raises(IdempotencyConflict):
        await records.pool(3).append_once("key", "another body", BATCH[:1])


async def test_beyond_the_bound_a_new_key_is_refused_and_a_known_one_still_gets_its_receipt() -> None:
    records = Records(most=1)
    first, _ = await records.pool(1).append_once("known", "f", BATCH[:1])
    with pytest.raises(IdempotencyFull):
        await records.pool(1).append_once("new", "f", BATCH[1:2])
    assert await records.pool(1).append_once("known", "f", BATCH[:1]) == (first, False)
    assert records.kept == ["id0"]


@pytest.mark.parametrize(("before", "after"), [(2, 1), (2, 3), (1, 2)])
async def test_the_rest_of_a_batch_under_a_key_is_kept_also_when_the_pool_has_changed(before: int, after: int) -> None:
    """The first half was kept, the caller is told to repeat it, and finds other groups."""
    records = Records()
    second = (shard_of(BATCH[0].key, before) + 1) % before
    if before > 1:
        with pytest.raises(OutcomeUnknown, match="a part"):
            await records.pool(before, second).append_once("key", "f", BATCH)
        assert 0 < len(records.kept) < len(BATCH)
    else:
        await records.pool(before).append_once("key", "f", BATCH)
    receipts, _ = await records.pool(after).append_once("key", "f", BATCH)
    assert [receipt.id for receipt in receipts] == [write.id for write in BATCH]
    assert set(records.kept) == {write.id for write in BATCH}


async def test_one_write_under_a_key_is_kept_once_whatever_the_pool() -> None:
    records = Records()
    for shards in (2, 1, 3):
        await records.pool(shards).append_once("key", "f", BATCH[:1])
    assert records.kept == ["id0"]


async def test_a_key_whose_first_record_has_expired_is_not_told_that_nothing_was_kept() -> None:
    records = Records()
    await records.pool(2).append_once("key", "f", BATCH)
    del records.known["key"]
    kept = len(records.kept)
    with pytest.raises(OutcomeUnknown, match="a part"):
        await records.pool(2).append_once("key", "another body", BATCH)
    assert len(records.kept) > kept


@pytest.mark.parametrize("unknown", [0, 1])
async def test_a_batch_of_which_one_part_may_be_kept_is_not_told_that_nothing_was(unknown: int) -> None:
    """The other part was surely not kept, and says so."""
    parts = [remote(QueueFull("full", 2.0)), remote(QueueFull("full", 2.0))]
    parts[unknown] = remote(OutcomeUnknown("Redis died"))
    with pytest.raises(OutcomeUnknown):
        await RemoteIntake(parts, ["0of2", "1of2"], remote(None), timeout_s=1.0).append(BATCH)
    full = [remote(QueueFull("full", 2.0))] * 2
    with pytest.raises(QueueFull):
        await RemoteIntake(full, ["0of2", "1of2"], remote(None), timeout_s=1.0).append(BATCH)


async def test_a_part_that_is_refused_at_once_does_not_hide_that_another_was_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "MAX_REQUEST_BYTES", 200)
    buffers = [Gated(), Gated()]
    for buffer in buffers:
        buffer.gate.set()
    intake = RemoteIntake(cast(list[Remote], buffers), ["0of2", "1of2"], remote(None), timeout_s=1.0)
    large = BATCH[-1]._replace(body=bytes(201))
    with pytest.raises(OutcomeUnknown, match="a part of the request was kept"):
        await intake.append([*BATCH[:-1], large])
    assert sum(buffer.calls for buffer in buffers) == 1


@pytest.mark.parametrize(("began", "error"), [(True, OutcomeUnknown), (False, BufferUnavailable)])
async def test_letters_that_may_be_forgotten_are_not_told_to_be_kept(began: bool, error: type[Exception]) -> None:
    intake = RemoteIntake([remote(ActorAway("killed", began=began))], ["0of1"], remote(None), timeout_s=1.0)
    with pytest.raises(error):
        await intake.forget_dead_letters(["0of1/1-0/0"])

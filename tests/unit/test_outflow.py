"""From the backlog to the writer, and out of the log once a Report has named every write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from composed import POLICY, answer, delete, end, insert, patch, put

from actors.adapters.clock import ManualClock, settle
from actors.adapters.memory import MemoryLog, RecordingTelemetry
from actors.backlog import Backlog
from actors.core.batching import BatchPolicy, Command, Entry, Verb
from actors.core.document import Write, decode_writes, encode_writes
from actors.core.errors import Fenced, LogUnavailable, OutcomeUnknown, WriterUnavailable
from actors.core.outcome import Outcome, Report
from actors.core.position import accepted_s
from actors.core.rates import RateMeter
from actors.outflow import Outflow

STORED, DUPLICATE, REJECTED, RETRY = Outcome


class Sink:
    """A writer that answers when and what the test says; by default everything is stored."""

    def __init__(self) -> None:
        self.batches: list[list[Command]] = []
        self.answers: list[Callable[[list[Command]], list[Report]]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, commands: Sequence[Command]) -> list[Report]:
        self.batches.append(list(commands))
        await self.open.wait()
        if self.answers:
            return self.answers.pop(0)(list(commands))
        return [Report.all(STORED, len(command.ids)) for command in commands]

    async def find(self, namespace: str, ids: Sequence[str]) -> list[bytes | None]:
        return [None for _ in ids]

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
        return []

    @property
    def ids(self) -> list[list[str]]:
        return [[id_ for command in batch for id_ in command.ids] for batch in self.batches]


class Pour:
    """An outflow and what surrounds it; `events` is what it did to the log and the cache, in order."""

    def __init__(self, policy: BatchPolicy = POLICY) -> None:
        self.clock = ManualClock()
        self.events: list[str] = []
        self.left: list[Entry] = []
        self.sink = Sink()
        self.log = Recorded(self.clock, self.events)
        self.backlog = Backlog()
        self.rejected = RateMeter()
        self.outflow = Outflow(
            self.log,
            self.backlog,
            self.sink,
            policy,
            self.clock,
            RecordingTelemetry(),
            RateMeter(),
            self.rejected,
            self.drop,
            lambda entries: self.left.extend(entries),
        )
        self.run: asyncio.Task[None] | None = None

    async def drop(self, keys: list[tuple[str, str]]) -> None:
        self.events.append(f"drop {' '.join(id_ for _, id_ in keys)}")

    async def add(self, *writes: Write) -> str:
        payload = encode_writes(list(writes))
        position = (await self.log.append(payload)).position
        at_s = accepted_s(position, self.clock.wall_s())
        self.backlog.add(Entry(position, decode_writes(payload), len(payload), at_s))
        self.outflow.wake()
        await settle()
        return position

    async def start(self) -> Pour:
        await self.log.open()
        self.run = asyncio.create_task(self.outflow.run())
        return self


class Recorded(MemoryLog):
    def __init__(self, clock: ManualClock, events: list[str]) -> None:
        super().__init__(clock=clock)
        self._events = events

    async def acknowledge(self, position: str) -> None:
        await super().acknowledge(position)
        self._events.append("acknowledge")

    async def dead_letter(self, letters: Sequence[object]) -> None:
        await super().dead_letter(letters)  # type: ignore[arg-type]
        self._events.append("dead letter")


@pytest.fixture
async def pour() -> AsyncIterator[Pour]:
    one = await Pour().start()
    yield one
    await end(one.run)


def report(*outcomes: Outcome, **reasons: str) -> Callable[[list[Command]], list[Report]]:
    """The report of a batch of one command."""
    return lambda commands: [Report(bytes(outcomes), {int(i[1:]): why for i, why in reasons.items()})]


async def test_a_lone_write_lingers_for_company(pour: Pour) -> None:
    await pour.add(insert("a"))
    await pour.clock.advance(0.049)
    assert pour.sink.ids == []
    await pour.add(insert("b"))
    await pour.clock.advance(0.001)
    assert pour.sink.ids == [["a", "b"]]


async def test_a_full_batch_leaves_at_once_and_takes_no_more_than_it_may(pour: Pour) -> None:
    pour.sink.open.clear()
    for group in range(3):
        await pour.add(*(insert(f"{group}-{i}") for i in range(60)))
    assert [len(ids) for ids in pour.sink.ids] == [60]
    pour.sink.open.set()
    await settle()
    assert [len(ids) for ids in pour.sink.ids] == [60, 60]
    await pour.clock.advance(0.05)
    assert [len(ids) for ids in pour.sink.ids] == [60, 60, 60]


async def test_nobody_who_waits_is_kept_lingering(pour: Pour) -> None:
    position = await pour.add(insert("a"))
    waiter = asyncio.create_task(pour.outflow.wait_for(position, 9.0))
    await settle()
    assert pour.sink.ids == [["a"]]
    assert waiter.result() == position
    await pour.add(insert("b"))
    await pour.clock.advance(0.049)
    assert pour.sink.ids == [["a"]], "nobody waits any more"


async def test_what_came_during_a_flush_has_lingered_already() -> None:
    pour = await Pour().start()
    pour.sink.open.clear()
    await pour.add(insert("a"))
    await pour.clock.advance(0.05)
    await pour.add(insert("b"))
    await pour.clock.advance(0.04)
    pour.sink.open.set()
    await pour.clock.advance(0.01)
    assert pour.sink.ids == [["a"], ["b"]]
    await end(pour.run)


async def test_one_batch_is_under_way_at_a_time(pour: Pour) -> None:
    pour.sink.open.clear()
    await pour.add(insert("a"))
    await pour.clock.advance(0.05)
    await pour.add(*(insert(str(i)) for i in range(100)))
    await pour.clock.advance(10.0)
    assert len(pour.sink.batches) == 1


async def test_nothing_leaves_the_log_before_the_report(pour: Pour) -> None:
    pour.sink.open.clear()
    await pour.add(insert("a"))
    await pour.clock.advance(60.0)
    assert pour.events == []
    assert pour.log.entries
    pour.sink.open.set()
    await settle()
    assert pour.events == ["acknowledge"]
    assert not pour.log.entries


async def test_a_write_to_be_tried_again_stays_and_the_same_command_goes_again(pour: Pour) -> None:
    pour.sink.answers = [report(STORED, RETRY), report(RETRY, RETRY), report(DUPLICATE, STORED)]
    await pour.add(insert("a"), insert("b"))
    await pour.clock.advance(0.05)
    assert pour.events == []
    await pour.clock.advance(0.05 + 0.1)
    assert pour.sink.batches[0] == pour.sink.batches[1] == pour.sink.batches[2]
    assert pour.events == ["acknowledge"]


async def test_why_a_batch_is_tried_again_stays_told_until_it_is_through(pour: Pour) -> None:
    pour.sink.answers = [lambda commands: [Report.again(1, "no space left")], report(RETRY)]
    await pour.add(insert("a"))
    for _ in range(2):
        await pour.clock.advance(0.05)
        assert pour.outflow.last_error == "no space left"
    await pour.clock.advance(0.1)
    assert pour.events == ["acknowledge"]
    assert pour.outflow.last_error == ""


async def test_what_mongodb_says_stays_told_when_the_log_is_back(pour: Pour) -> None:
    pour.log.faults.plan("acknowledge", *[LogUnavailable("away")] * 12)
    pour.sink.answers = [report(STORED), *[lambda commands: [Report.again(1, "no space left")]] * 20]
    await pour.add(insert("a"))
    await pour.clock.advance(0.05)
    await pour.add(insert("b"))
    while not pour.events:
        await pour.clock.advance(0.01)
    assert pour.events == ["acknowledge"]
    assert pour.outflow.last_error == "no space left"


async def test_only_the_commands_in_question_go_again(pour: Pour) -> None:
    pour.sink.answers = [lambda commands: [Report.all(STORED, 1), Report.all(RETRY, 1)]]
    await pour.add(insert("a"), put("b"))
    await pour.clock.advance(1.0)
    assert pour.sink.ids == [["a", "b"], ["b"]]


async def test_a_writer_that_is_gone_gets_the_same_batch_again(pour: Pour) -> None:
    def gone(commands: list[Command]) -> list[Report]:
        raise WriterUnavailable("restarting")

    pour.sink.answers = [gone, gone]
    await pour.add(insert("a"))
    await pour.clock.advance(0.05)
    assert pour.outflow.last_error == "restarting"
    await pour.clock.advance(1.0)
    assert pour.sink.ids == [["a"], ["a"], ["a"]]
    assert pour.events == ["acknowledge"]
    assert pour.outflow.last_error == ""


async def test_what_mongodb_refuses_is_a_dead_letter_before_it_leaves_the_log(pour: Pour) -> None:
    pour.sink.answers = [report(STORED, REJECTED, _1="no such field")]
    position = await pour.add(insert("a"), insert("b", n=1))
    await pour.clock.advance(0.05)
    assert pour.events == ["dead letter", "acknowledge"]
    letter = pour.log.shelf.letters[f"0of1/{position}/1"]
    assert decode_writes(letter.payload) == [insert("b", n=1)]
    assert (letter.reason, letter.attempts) == ("no such field", 1)
    assert (letter.first_s, letter.last_s) == pytest.approx((1_800_000_000.0, 1_800_000_000.05), rel=0, abs=0.001)
    assert pour.outflow.rejections == {f"{position}/1": "no such field"}


async def test_a_letter_counts_how_often_its_batch_was_tried(pour: Pour) -> None:
    def gone(commands: list[Command]) -> list[Report]:
        raise WriterUnavailable("restarting")

    pour.sink.answers = [gone, report(STORED, RETRY), report(DUPLICATE, REJECTED, _1="bad")]
    await pour.add(insert("a"), insert("b"))
    await pour.clock.advance(1.0)
    assert [letter.attempts for letter in pour.log.shelf.letters.values()] == [3]


async def test_letters_stand_in_the_order_their_writes_were_accepted(pour: Pour) -> None:
    """So that a replay of all of them leaves the last accepted version last, also when that was refused first."""

    def no_updates(commands: list[Command]) -> list[Report]:
        return [Report(bytes([REJECTED]), {0: "bad"}) for _ in commands]

    pour.sink.answers = [no_updates] * 3
    position = await pour.add(put("a", n=1), put("a", n=2), put("a", n=3))
    await pour.clock.advance(0.05)
    assert len(pour.sink.batches) == 3
    assert list(pour.log.shelf.letters) == [f"0of1/{position}/{index}" for index in range(3)]


async def test_a_refusal_without_a_reason_is_a_refusal(pour: Pour) -> None:
    pour.sink.answers = [report(REJECTED)]
    await pour.add(insert("a"))
    await pour.clock.advance(0.05)
    assert pour.events == ["dead letter", "acknowledge"]


async def test_a_report_about_another_number_of_writes_stops_everything(pour: Pour) -> None:
    pour.sink.answers = [report(STORED)]
    await pour.add(insert("a"), insert("b"))
    await pour.clock.advance(0.05)
    assert pour.run is not None
    with pytest.raises(RuntimeError, match="2 writes were sent and 1 reported"):
        answer(pour.run)
    assert pour.events == []


async def test_while_the_dead_letter_cannot_be_kept_its_write_stays_in_the_log(pour: Pour) -> None:
    pour.sink.answers = [report(REJECTED, _0="bad")]
    pour.log.faults.plan("dead_letter", LogUnavailable("away"), OutcomeUnknown("lost"), LogUnavailable("away"))
    await pour.add(insert("a"))
    await pour.clock.advance(0.05 + 0.05)
    assert pour.events == []
    assert pour.log.entries
    await pour.clock.advance(5.0)
    assert pour.events == ["dead letter", "acknowledge"]


async def test_a_refused_write_makes_what_it_had_replaced_count_again(pour: Pour) -> None:
    position = await pour.add(insert("x"), put("a", n=1), put("a", n=2), put("a", n=3))

    def only_updates(commands: list[Command]) -> list[Report]:
        return [
            Report(bytes([REJECTED]), {0: "bad"}) if command.verb == Verb.UPDATE else Report.all(STORED, 1)
            for command in commands
        ]

    pour.sink.answers = [only_updates]
    await pour.clock.advance(0.05)
    sent = [decode for batch in pour.sink.batches for c in batch if c.verb == Verb.UPDATE for decode in c.bodies]
    assert sent == [put("a", n=3).body, put("a", n=2).body]
    assert list(pour.log.shelf.letters) == [f"0of1/{position}/3"]


async def test_what_a_refusal_makes_count_again_takes_no_other_key_with_it(pour: Pour) -> None:
    """The first of two patches, stored long ago, would be refused after the second: a dead letter of a stored write."""
    position = await pour.add(patch("k", n=1), patch("k", n=2), put("m", n=1), patch("m", n=2), put("m", n=3))

    def refuse_m(commands: list[Command]) -> list[Report]:
        return [
            Report(bytes(REJECTED if id_ == "m" else STORED for id_ in c.ids), dict.fromkeys(range(len(c.ids)), "no"))
            for c in commands
        ]

    pour.sink.answers = [refuse_m]
    await pour.clock.advance(0.05)
    assert pour.sink.ids == [["k", "m"], ["k", "m"], ["m"]]
    assert list(pour.log.shelf.letters) == [f"0of1/{position}/4"]


async def test_nothing_is_sent_before_what_it_builds_on_counts_again(pour: Pour) -> None:
    """A patch makes a document where there is none, and the insert that counts again would be a copy of that."""
    position = await pour.add(insert("m", n=1), put("m", unique="taken"), patch("m", n=2))
    pour.sink.answers = [report(REJECTED, _0="taken")]
    await pour.clock.advance(0.05)
    assert pour.sink.ids == [["m"]] * 3
    assert [batch[0].bodies for batch in pour.sink.batches[1:]] == [[insert("m", n=1).body], [patch("m", n=2).body]]
    assert list(pour.log.shelf.letters) == [f"0of1/{position}/1"]


async def test_what_was_stored_before_a_refusal_does_not_go_again(pour: Pour) -> None:
    """Of the first it may be refused what the second has changed; and what a stored write says is no concern of it."""
    writes = [put("m", n=0), put("m", n=1), patch("m", n=2), patch("m", n=3), insert("m"), patch("m", n=4)]
    position = await pour.add(*writes)
    pour.sink.answers = [report(STORED), report(STORED), report(REJECTED, _0="no")]
    await pour.clock.advance(0.05)
    sent = [body for batch in pour.sink.batches for body in batch[0].bodies]
    assert sent == [write.body for write in writes[1:]]
    assert list(pour.log.shelf.letters) == [f"0of1/{position}/3"]


async def test_a_later_patch_waits_until_the_report_of_what_it_is_based_on(pour: Pour) -> None:
    pour.sink.open.clear()
    await pour.add(put("a"), patch("a", n=1), delete("b"))
    await pour.clock.advance(1.0)
    assert pour.sink.ids == [["a", "b"]]
    pour.sink.open.set()
    await settle()
    assert pour.sink.ids == [["a", "b"], ["a"]]


async def test_cached_copies_are_forgotten_before_the_write_is(pour: Pour) -> None:
    dropped: list[int] = []

    async def drop(keys: list[tuple[str, str]]) -> None:
        dropped.append(pour.backlog.writes)
        await pour.drop(keys)

    pour.outflow._drop = drop
    await pour.add(insert("new"), put("a"), patch("b", n=1), delete("c"))
    await pour.clock.advance(0.05)
    assert pour.events == ["drop a b c", "acknowledge"]
    assert dropped == [4]
    assert pour.backlog.writes == 0
    assert [len(entry.writes) for entry in pour.left] == [4], "whoever reads takes along what leaves"


async def test_a_refused_write_is_taken_along_by_whoever_reads_as_well(pour: Pour) -> None:
    pour.sink.answers = [report(REJECTED, _0="no")]
    position = await pour.add(patch("a", n=1))
    await pour.clock.advance(0.05)
    assert [entry.position for entry in pour.left] == [position]


async def test_a_refused_write_does_not_leave_before_those_in_front_of_it(pour: Pour) -> None:
    """Else what leaves in its place would not be read any more, and a cache still holds what it replaced."""
    pour.log.faults.plan("acknowledge", *[LogUnavailable("away")] * 5)
    pour.sink.answers = [report(STORED), report(STORED), report(REJECTED, _0="no")]
    positions = []
    for id_, pause_s in (("a", 0.05), ("b", 0.85), ("c", 5.0)):  # c is refused while a waits for its next try
        positions.append(await pour.add(put(id_)))
        await pour.clock.advance(pause_s)
    assert [entry.position for entry in pour.left] == positions
    assert [event for event in pour.events if event.startswith("drop")][-3:] == ["drop a", "drop b", "drop c"]


async def test_an_acknowledgement_is_tried_until_the_log_takes_it_and_flushing_goes_on_meanwhile(pour: Pour) -> None:
    pour.log.faults.plan("acknowledge", *[LogUnavailable("away")] * 5)
    await pour.add(insert("a"))
    await pour.clock.advance(0.05)
    await pour.add(insert("b"))
    await pour.clock.advance(0.05)
    assert pour.sink.ids == [["a"], ["b"]]
    assert len(pour.log.entries) == 2
    await pour.clock.advance(5.0)
    assert not pour.log.entries
    assert pour.backlog.writes == 0


async def test_what_a_newer_owner_has_loaded_is_not_forgotten_and_the_older_outflow_ends(pour: Pour) -> None:
    await pour.log.open()
    await pour.add(insert("a"))
    await pour.log.another().open()
    await pour.clock.advance(0.05)
    assert pour.sink.ids == [["a"]]
    assert pour.run is not None
    with pytest.raises(Fenced):
        answer(pour.run)
    assert len(pour.log.entries) == 1


async def test_the_tenth_entry_of_a_millisecond_is_not_resolved_with_the_ninth() -> None:
    pour = await Pour(BatchPolicy(max_writes=10, max_bytes=10_000, linger_s=60.0)).start()
    positions = [await pour.add(insert(str(i))) for i in range(11)]
    assert pour.outflow.resolved == positions[9]
    assert positions[9] > positions[10], "as texts"
    pour.sink.open.clear()
    waiter = asyncio.create_task(pour.outflow.wait_for(positions[10], 1.0))
    await settle()
    assert not waiter.done()
    pour.sink.open.set()
    await settle()
    assert waiter.result() == positions[10]
    await end(pour.run)


async def test_waiting_ends_when_the_time_is_up(pour: Pour) -> None:
    pour.sink.open.clear()
    position = await pour.add(insert("a"))
    waiter = asyncio.create_task(pour.outflow.wait_for(position, 2.0))
    await pour.clock.advance(1.9)
    assert not waiter.done()
    await pour.clock.advance(0.1)
    assert waiter.result() == "0-0"


async def test_only_so_many_rejections_are_remembered_and_it_says_since_when() -> None:
    pour = await Pour(BatchPolicy(max_writes=2_000, max_bytes=1 << 20, linger_s=0.0)).start()
    pour.sink.answers = [lambda commands: [Report(bytes([REJECTED]) * 700, {})]] * 2
    first = await pour.add(*(insert(f"a{i}") for i in range(700)))
    await pour.add(*(insert(f"b{i}") for i in range(700)))
    await pour.clock.advance(0.1)
    assert len(pour.outflow.rejections) == 1_000
    assert pour.outflow.complete_since == first
    assert pour.rejected.total == 1_400
    await end(pour.run)

"""The whole core under anything that can happen to it: Hypothesis writes the story, the invariants judge its end."""

from __future__ import annotations

import asyncio
from typing import Any

import bson
from composed import LIMIT, Service, insert, keyed, patch, put, worst_window
from composed import delete as deletion
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from actors.core.document import Kind, Write, decode_writes
from actors.core.errors import (
    CommandFailed,
    CommandNotSent,
    CommandUnknown,
    LogUnavailable,
    OutcomeUnknown,
    SpillwayError,
)
from actors.core.ports import Keyed

KEYS = st.sampled_from(["a", "b", "c"])
POISON = "poison"

State = dict[str, dict[str, Any]]


class Core(RuleBasedStateMachine):
    """Writes are numbered, so every state of a document tells which write made it."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.service = Service()
        self.service.store.poison = {POISON: "it is poison"}
        self.number = 0
        self.fresh: list[str] = []  # ids of inserts, each used once
        self.asked: list[tuple[asyncio.Task[Any], list[Write], list[Keyed]]] = []
        self.order: dict[str, list[Write]] = {}  # position in the log -> what stands there
        self.keyed: dict[str, Write] = {}
        self.within(self.service.start())

    def within(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def next(self) -> int:
        self.number += 1
        return self.number

    def submit(self, writes: list[Write], keys: list[Keyed]) -> None:
        async def begin() -> asyncio.Task[Any]:
            return self.service.append(*writes, keys=keys)

        self.asked.append((self.within(begin()), writes, keys))
        self.advance(0.0)

    # What clients do

    @rule(key=KEYS, kind=st.sampled_from(["put", "patch", "delete"]))
    def change(self, key: str, kind: str) -> None:
        n = self.next()
        self.submit([{"put": put(key, n=n), "patch": patch(key, m=n), "delete": deletion(key)}[kind]], [])

    @rule(count=st.integers(1, 4))
    def insert_new(self, count: int) -> None:
        ids = [f"new{self.next()}" for _ in range(count)]
        self.fresh += ids
        self.submit([insert(id_, n=1) for id_ in ids], [])

    @precondition(lambda self: self.fresh)
    @rule(data=st.data())
    def insert_again(self, data: st.DataObject) -> None:
        self.submit([insert(data.draw(st.sampled_from(self.fresh)), n=1)], [])

    @rule()
    def insert_poison_between_others(self) -> None:
        ids = [f"new{self.next()}" for _ in range(2)]
        self.fresh += ids
        self.submit([insert(ids[0], n=1), put(POISON, n=self.next()), insert(ids[1], n=1)], [])

    @rule(key=st.sampled_from(["k1", "k2"]), beside=KEYS)
    def insert_under_a_key(self, key: str, beside: str) -> None:
        write = self.keyed.setdefault(key, insert(f"keyed-{key}", n=1))
        self.submit([put(beside, n=self.next())], [keyed(key, write)])

    # What goes wrong

    @rule()
    def crash_buffer(self) -> None:
        self.within(self.service.restart_buffer())

    @rule()
    def crash_writer(self) -> None:
        async def crash() -> None:
            await self.service.kill_writer()
            self.service.new_writer()
            await self.service.start_writer()

        self.within(crash())

    @rule(error=st.sampled_from([CommandNotSent, CommandFailed, CommandUnknown]))
    def database_does_not_execute(self, error: type[SpillwayError]) -> None:
        self.service.store.faults.plan("store", error("injected"))

    @rule()
    def reply_of_the_database_is_lost(self) -> None:
        self.service.store.faults.plan("store reply", CommandUnknown("injected"))

    @rule(times=st.integers(1, 5))
    def database_is_away(self, times: int) -> None:
        self.service.store.faults.plan("probe", *[CommandNotSent("injected")] * times)

    @rule(where=st.sampled_from(["append", "append reply", "append late", "acknowledge", "dead_letter", "replay"]))
    def log_does_not_answer(self, where: str) -> None:
        error = LogUnavailable if where == "replay" else OutcomeUnknown
        self.service.log.faults.plan(where, error("injected"))

    @rule(where=st.sampled_from(["append", "acknowledge", "ping", "reopen"]), times=st.integers(1, 3))
    def log_is_away(self, where: str, times: int) -> None:
        self.service.log.faults.plan(where, *[LogUnavailable("injected")] * times)

    @rule()
    def late_appends_arrive(self) -> None:
        self.service.log.land()

    @rule(refuses=st.booleans())
    def poison_refuses_the_whole_command(self, refuses: bool) -> None:
        self.service.store.refuses_whole = refuses

    @rule(seconds=st.sampled_from([0.02, 0.06, 0.3, 1.0, 7.0]))
    def time_passes(self, seconds: float) -> None:
        self.advance(seconds)

    @rule(seconds=st.sampled_from([-86_400.0, -2.0, 2.0, 86_400.0]))
    def wall_clock_steps(self, seconds: float) -> None:
        self.service.clock.step_wall(seconds)

    def advance(self, seconds: float) -> None:
        self.within(self.service.clock.advance(seconds))
        self.look_into_the_log()

    def look_into_the_log(self) -> None:
        """What the log ever held, and in which order."""
        for position, payload in self.service.log.history.items():
            self.order.setdefault(position, decode_writes(payload))

    # What must hold

    @invariant()
    def every_answer_names_a_place_in_the_log(self) -> None:
        self.look_into_the_log()
        for task, writes, keys in self.asked:
            if task.done() and not task.cancelled() and task.exception() is None:
                kept = task.result()
                if writes:
                    assert self.order[kept.position][kept.first : kept.first + len(writes)] == writes
                for item, answer in zip(keys, kept.keyed, strict=True):
                    assert self.order[answer.position.partition("/")[2]] == decode_writes(item.payload)

    @invariant()
    def no_window_holds_too_many_commands(self) -> None:
        assert worst_window([at for at, _, _ in self.service.store.commands][-300:]) <= LIMIT

    @invariant()
    def the_parts_are_alive(self) -> None:
        for task in (self.service.buffer_task, self.service.writer_task):
            assert task is not None
            assert not task.done(), task

    def teardown(self) -> None:
        try:
            for faults in (self.service.log.faults, self.service.store.faults):
                faults.clear()
            self.service.store.refuses_whole = False
            self.advance(60.0)
            self.judge()
        finally:
            self.within(self.service.stop())
            self.loop.close()

    def judge(self) -> None:
        service = self.service
        assert service.buffer.stats()["ready"], "the buffer does not accept after all faults have ended"
        assert service.buffer.stats()["writes"] == 0, "the backlog did not fall to nothing"
        assert not service.log.entries, "something is left in the log"
        in_order = [write for position in self.sorted_positions() for write in self.order[position]]
        expected: State = {}
        for write in in_order:
            if write.id != POISON:
                apply(expected, write)
        stored = {id_: bson.decode(body) for (_, id_), body in service.store.documents.items()}
        assert stored == expected, "lost, doubled, a ghost, or an older write over a later one"
        letters = [write for letter in service.log.shelf.letters.values() for write in decode_writes(letter.payload)]
        assert {write.id for write in letters} <= {POISON}
        if any(write.id == POISON for write in in_order):
            assert letters, "what was refused is nowhere"
        for task, writes, _ in self.asked:
            assert task.done(), "a caller was never answered"
            if not task.cancelled() and isinstance(task.exception(), LogUnavailable):
                for write in writes:
                    kept = sum(write in some for some in self.order.values())
                    others = sum(write in more for other, more, _ in self.asked if other is not task)
                    assert kept == 0 or others, "answered as surely not kept, and kept"

    def sorted_positions(self) -> list[str]:
        return sorted(self.order, key=lambda position: tuple(map(int, position.split("-"))))


def apply(state: State, write: Write) -> None:
    """A database of one kind of update, written anew."""
    if write.kind == Kind.DELETE:
        state.pop(write.id, None)
    elif write.kind == Kind.PUT:
        state[write.id] = bson.decode(write.body)
    elif write.kind == Kind.PATCH:
        state.setdefault(write.id, {"_id": write.id}).update(bson.decode(write.body)["$set"])
    else:
        state.setdefault(write.id, bson.decode(write.body))


TestCore = Core.TestCase
TestCore.settings = settings(max_examples=400, stateful_step_count=40)

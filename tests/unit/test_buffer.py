"""A buffer: what it accepts comes out at MongoDB, whatever dies in between; and can be read on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import bson
import pytest
from composed import NAMESPACE, Service, answer, delete, end, insert, keyed, patch, put, until

from actors import heritage
from actors.adapters.clock import settle
from actors.adapters.memory import MemoryCache, MemoryLog
from actors.core.document import Kind, encode_writes
from actors.core.errors import (
    BufferUnavailable,
    DatabaseUnavailable,
    Draining,
    Fenced,
    LogUnavailable,
    OutcomeUnknown,
)
from actors.core.intake import Found, State


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    one = await Service().start()
    yield one
    await one.stop()


async def read(service: Service, id_: str, seconds: float = 0.5) -> Found:
    task = asyncio.create_task(service.buffer.read(NAMESPACE, [id_]))
    await service.clock.advance(seconds)
    (found,) = answer(task)
    assert isinstance(found, Found)
    return found


def document(found: Found) -> dict[str, object] | None:
    """What the reader makes of it."""
    base = None if found.base is None else bson.decode(found.base)
    for update in found.patches:
        base = (base or {}) | bson.decode(update)["$set"]
    if base is not None:
        base.pop("_id", None)
    return base


async def test_what_is_accepted_is_stored_and_then_forgotten_by_the_log(service: Service) -> None:
    await service.keep(*(insert(f"id{i}", n=i) for i in range(250)))
    await service.clock.advance(1.0)
    assert service.stored == {f"id{i}": {"n": i} for i in range(250)}
    assert not service.log.entries
    assert service.buffer.stats()["drained_total"] == 250


async def test_a_buffer_that_dies_before_the_flush_is_replayed(service: Service) -> None:
    await service.keep(insert("a", n=1), put("b", n=1))
    await service.restart_buffer()
    await service.clock.advance(1.0)
    assert service.stored == {"a": {"n": 1}, "b": {"n": 1}}
    assert not service.log.entries
    stats = service.buffer.stats()
    assert (stats["accepted_total"], stats["drained_total"]) == (0, 2), "it was the owner before who accepted them"


async def test_a_buffer_that_dies_before_the_acknowledgement_stores_nothing_twice(service: Service) -> None:
    service.log.faults.plan("acknowledge", *[LogUnavailable("away")] * 3)
    await service.keep(insert("a", n=1))
    await service.clock.advance(0.06)
    assert service.stored == {"a": {"n": 1}}
    assert service.log.entries
    await service.restart_buffer()
    await service.clock.advance(2.0)
    assert service.store.applied == {(NAMESPACE, "a"): 1}
    assert not service.log.entries


async def test_what_a_dead_buffer_left_at_the_writer_never_overtakes_what_its_successor_sends(service: Service) -> None:
    """The old owner's PUT is under way, slowly; the new one has accepted a later PUT to the same key."""
    service.store.hold = asyncio.Event()
    await service.keep(put("a", n=1))
    await service.clock.advance(0.1)
    assert service.sent == [("store", 1)]
    await service.restart_buffer()
    await service.keep(put("a", n=2))
    await service.clock.advance(1.0)
    assert service.sent == [("store", 1)], "the second would be executed beside the first, in either order"
    service.store.hold.set()
    await service.clock.advance(1.0)
    assert service.stored == {"a": {"n": 2}}


async def test_what_a_dead_buffer_left_waiting_shares_no_command_with_its_successor(service: Service) -> None:
    service.store.hold = asyncio.Event()
    blockers = []
    for i in range(4):  # one for each lane
        blockers.append(asyncio.create_task(service.writer.find("other.c", [str(i)])))
        await service.clock.advance(0.02)
    await service.keep(put("a", n=1))
    await service.clock.advance(0.1)
    await service.restart_buffer()
    await service.keep(put("a", n=2))
    await service.clock.advance(0.1)
    service.store.hold.set()
    await service.clock.advance(1.0)
    assert [writes for verb, writes in service.sent if verb == "store"] == [1]
    assert service.stored == {"a": {"n": 2}}
    await end(*blockers)


async def test_a_zombie_buffer_sends_nothing_once_its_successor_has(service: Service) -> None:
    zombie_task, zombie = service.buffer_task, service.buffer
    service.log.ping = asyncio.Event().wait  # type: ignore[assignment, method-assign]  # which would end it before
    await service.keep(put("a", n=1))
    service.log = service.log.another()
    service.new_buffer()
    await service.start_buffer()
    await service.keep(put("a", n=2))
    waiting = asyncio.create_task(service.buffer.wait_for("9999999999999-0", 0.01))  # so that it flushes at once
    await service.clock.advance(2.0)
    assert zombie_task is not None
    assert zombie_task.done()
    with pytest.raises(Fenced):
        answer(zombie_task)
    assert zombie.stats()["drained_total"] == 0
    assert service.stored == {"a": {"n": 2}}
    await end(waiting)


# Reading


@pytest.mark.parametrize(
    ("writes", "expected"),
    [
        ([insert("a", n=1)], {"n": 1}),
        ([put("a", n=1)], {"n": 1}),
        ([put("a", n=1), put("a", n=2)], {"n": 2}),
        ([put("a", n=1), patch("a", m=2)], {"n": 1, "m": 2}),
        ([put("a", n=1), patch("a", n=2), patch("a", m=3)], {"n": 2, "m": 3}),
        ([patch("a", n=2), put("a", m=1)], {"m": 1}),
        ([put("a", n=1), delete("a")], None),
        ([delete("a"), patch("a", n=1)], {"n": 1}),
        ([delete("a"), insert("a", n=1)], {"n": 1}),
        ([insert("a", n=1), patch("a", n=2), insert("a", n=1)], {"n": 2}),
        ([put("a", n=2), insert("a", n=1)], {"n": 2}),
    ],
)
async def test_a_write_can_be_read_before_mongodb_has_it_and_after(
    service: Service, writes: list[object], expected: dict[str, object] | None
) -> None:
    service.store.hold = asyncio.Event()
    await service.keep(*writes)  # type: ignore[arg-type]
    assert document(await read(service, "a")) == expected
    service.store.hold.set()
    await service.clock.advance(1.0)
    assert document(await read(service, "a")) == expected
    assert service.stored.get("a") == expected


async def test_a_patch_in_the_buffer_goes_on_top_of_what_mongodb_has(service: Service) -> None:
    await service.keep(put("a", n=1, m=1))
    await service.clock.advance(1.0)
    service.store.faults.plan("store", *[_not_sent() for _ in range(1)])
    await service.keep(patch("a", n=2))
    found = await read(service, "a", 0.03)
    assert document(found) == {"n": 2, "m": 1}
    assert (found.source, len(found.patches)) == ("mongodb", 1)


async def test_an_insert_of_long_ago_that_comes_again_does_not_hide_what_has_changed_since(service: Service) -> None:
    await service.keep(insert("a", n=1))
    await service.clock.advance(1.0)
    await service.keep(patch("a", n=2), insert("a", n=1))
    assert document(await read(service, "a", 0.03)) == {"n": 2}


async def test_what_was_read_is_cached_until_it_is_written(service: Service) -> None:
    await service.keep(put("a", n=1))
    await service.clock.advance(1.0)
    assert [(await read(service, "a")).source for _ in range(2)] == ["mongodb", "cache"]
    await service.keep(patch("a", n=2))
    await service.clock.advance(1.0)
    found = await read(service, "a")
    assert (found.source, document(found)) == ("mongodb", {"n": 2})


async def test_a_document_read_before_a_write_is_not_cached_after_it(service: Service) -> None:
    await service.keep(put("a", n=1))
    await service.clock.advance(1.0)
    service.store.hold = asyncio.Event()
    reading = asyncio.create_task(service.buffer.read(NAMESPACE, ["a"]))
    await service.clock.advance(0.1)  # the find has taken its picture and is slow to answer
    held, service.store.hold = service.store.hold, None
    await service.keep(put("a", n=2))
    await service.clock.advance(1.0)
    assert service.stored == {"a": {"n": 2}}
    held.set()
    await service.clock.advance(1.0)
    assert document(answer(reading)[0]) == {"n": 2}
    assert document(await read(service, "a")) == {"n": 2}


async def test_what_mongodb_cannot_tell_just_now_keeps_nothing_else_from_being_read(service: Service) -> None:
    await service.keep(put("stored", n=0))
    await service.clock.advance(1.0)
    await read(service, "stored")
    await service.kill_writer()
    await service.keep(put("kept", n=1))
    reading = asyncio.create_task(service.buffer.read(NAMESPACE, ["kept", "absent", "stored"]))
    await service.clock.advance(0.1)
    kept, absent, stored = answer(reading)
    assert (document(kept), document(stored)) == ({"n": 1}, {"n": 0})
    assert isinstance(absent, DatabaseUnavailable)


async def test_a_near_read_leaves_mongodb_alone(service: Service) -> None:
    await service.keep(put("a", n=1), put("b", n=1))
    await service.clock.advance(1.0)
    await read(service, "a")
    await service.keep(patch("a", n=2), patch("b", n=2), put("c", n=3))
    before = len(service.store.commands)
    a, b, c, absent = await service.buffer.read_near(NAMESPACE, ["a", "b", "c", "absent"])
    assert (document(a), document(c)) == ({"n": 2}, {"n": 3})
    assert (b, absent) == (None, None)
    assert len(service.store.commands) == before


async def test_a_near_read_that_a_write_overtakes_takes_it_along(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its copy is from before a write that has left the backlog meanwhile."""
    await service.keep(put("a", n=1))
    await service.clock.advance(1.0)
    await read(service, "a")
    get = service.cache.get

    async def overtaken(keys: list[str]) -> list[bytes | None]:
        documents = await get(keys)
        await service.keep(put("a", n=2))
        await service.clock.advance(1.0)
        return documents

    monkeypatch.setattr(service.cache, "get", overtaken)
    assert await service.buffer.read_near(NAMESPACE, ["a"]) == [Found(put("a", n=2).body, [], "buffer")]


async def test_a_read_that_begins_after_a_write_was_stored_does_not_join_an_older_question(service: Service) -> None:
    await service.keep(put("a", n=1))
    await service.clock.advance(1.0)
    service.store.hold = asyncio.Event()
    old = asyncio.create_task(service.writer.find(NAMESPACE, ["a"]))
    await service.clock.advance(0.1)
    held, service.store.hold = service.store.hold, None
    await service.keep(put("a", n=2))
    await service.clock.advance(1.0)
    assert document(await read(service, "a")) == {"n": 2}
    held.set()
    await end(old)


async def test_writes_to_other_documents_do_not_make_a_read_ask_twice_or_keep_it_out_of_the_cache(
    service: Service,
) -> None:
    await service.keep(put("a", n=1))
    await service.clock.advance(1.0)
    service.store.hold = asyncio.Event()
    reading = asyncio.create_task(service.buffer.read(NAMESPACE, ["a"]))
    await service.clock.advance(0.1)
    held, service.store.hold = service.store.hold, None
    await service.keep(put("b", n=2))
    await service.clock.advance(1.0)
    held.set()
    await service.clock.advance(1.0)
    assert document(answer(reading)[0]) == {"n": 1}
    assert [verb for verb, _ in service.sent].count("find") == 1
    assert (await read(service, "a")).source == "cache"


async def test_the_cache_is_bounded(service: Service) -> None:
    service.cache = MemoryCache(3)
    await service.restart_buffer()
    await service.keep(*(put(f"id{i}") for i in range(6)))
    await service.clock.advance(1.0)
    for i in range(6):
        await read(service, f"id{i}", 0.1)
    assert list(service.cache.documents) == [f"{NAMESPACE}/id{i}" for i in (3, 4, 5)]


async def test_what_mongodb_has_answered_is_told_though_the_cache_can_drop_nothing(service: Service) -> None:
    """An older document has to make room, and Redis does not answer just then."""
    service.cache = MemoryCache(1)
    await service.restart_buffer()
    await service.keep(put("a", n=1), put("b", n=2))
    await service.clock.advance(1.0)
    service.cache.faults.plan("drop", *[LogUnavailable("away")] * 9)
    assert [document(await read(service, id_, 0.1)) for id_ in "ab"] == [{"n": 1}, {"n": 2}]


async def test_a_sample_is_of_this_buffers_own_documents_and_is_cached(service: Service) -> None:
    await service.restart_buffer(owns=lambda key: key.id != "b")
    await service.keep(put("a", n=1), put("b", n=1))
    await service.clock.advance(1.0)
    sampling = asyncio.create_task(service.buffer.sample(NAMESPACE, 5))
    await service.clock.advance(0.1)
    assert [id_ for id_, _ in answer(sampling)] == ["a"]
    assert list(service.cache.documents) == [f"{NAMESPACE}/a"]


# Streams of an earlier pool


FROM_THE_FUTURE = encode_writes([delete("x")._replace(kind=Kind.DELETE + 1)])


async def inherit(service: Service, *writes: object) -> MemoryLog:
    old = MemoryLog("1of2", service.log.shelf, service.clock)
    await old.another().open()
    owner = old.another()
    await owner.open()
    await owner.append(encode_writes(list(writes)))  # type: ignore[arg-type]
    return owner


async def test_inherited_streams_are_emptied_before_anything_of_our_own_is_sent(service: Service) -> None:
    old = await inherit(service, put("a", n=1), put("b", n=1))
    await service.keep(put("a", n=2))
    service.store.faults.plan("store", _not_sent())
    gate = asyncio.Event()

    async def others_are_empty() -> bool:
        return gate.is_set()

    await service.restart_buffer(inherited=[old.another()], predecessors_empty=others_are_empty)
    await service.clock.advance(30.0)
    assert service.stored == {"a": {"n": 1}, "b": {"n": 1}}
    assert not old.entries
    assert service.buffer.stats()["writes"] == 1
    gate.set()
    await service.clock.advance(1.0)
    assert service.stored == {"a": {"n": 2}, "b": {"n": 1}}


async def test_the_owner_of_an_inherited_stream_is_over(service: Service) -> None:
    old = await inherit(service, put("a", n=1))
    await service.restart_buffer(inherited=[old.another()])
    await service.clock.advance(1.0)
    with pytest.raises(Fenced):
        await old.append(encode_writes([put("b")]))


async def test_the_heir_of_a_stream_that_a_newer_heir_has_opened_ends(service: Service) -> None:
    old = await inherit(service, put("a", n=1))
    service.store.hold = asyncio.Event()
    await service.restart_buffer(inherited=[old.another()])
    await service.clock.advance(1.0)
    await old.another().open()
    service.store.hold.set()
    await service.clock.advance(1.0)
    assert service.buffer_task is not None
    with pytest.raises(Fenced):
        answer(service.buffer_task)
    assert old.entries


async def test_an_inherited_stream_survives_a_log_that_is_away_for_a_while(service: Service) -> None:
    old = await inherit(service, put("a", n=1))
    old.faults.plan("open", *[LogUnavailable("away")] * 2)
    old.faults.plan("replay", *[LogUnavailable("away")] * 2)
    await service.restart_buffer(inherited=[old.another()])
    await service.clock.advance(3.0)
    assert service.stored == {"a": {"n": 1}}
    assert service.buffer_task is not None
    assert not service.buffer_task.done()


async def test_an_inherited_stream_that_cannot_be_read_is_told_and_waited_for(service: Service) -> None:
    """It was swallowed as a log that is away; and what only `decode_writes` could not read ended the process."""
    old = await inherit(service, put("a", n=1))
    position = (await old.append(FROM_THE_FUTURE)).position
    await service.restart_buffer(inherited=[old.another()])
    await service.clock.advance(3.0)
    assert f"1of2 holds an entry at {position} that this version cannot read" in service.buffer.stats()["last_error"]
    assert service.stored == {}
    del old.entries[position]
    await service.clock.advance(3.0)
    assert service.stored == {"a": {"n": 1}}
    assert service.buffer.stats()["last_error"] == ""


async def test_who_pours_an_inherited_stream_and_nothing_else_does_not_wait_for_its_log(service: Service) -> None:
    """Who waits for it has no status of its own yet, so it has to hear the reason."""
    old = await inherit(service)
    await old.append(FROM_THE_FUTURE)
    service.new_buffer(inherited=[old.another()])
    with pytest.raises(LogUnavailable, match="cannot read"):
        await service.buffer.pour_heritage()


async def test_a_stream_that_cannot_be_read_is_not_opened_and_its_position_is_told(service: Service) -> None:
    position = (await service.log.append(FROM_THE_FUTURE)).position
    await service.kill_buffer()
    service.new_buffer()
    with pytest.raises(LogUnavailable, match=f"0of1 holds an entry at {position} that this version cannot read"):
        await service.buffer.open()


async def test_what_an_inherited_stream_holds_is_told_and_is_part_of_the_drain(service: Service) -> None:
    """Else the status says "drained", and the stop too, while accepted writes have yet to reach MongoDB."""
    old = await inherit(service, put("a", n=1), put("b", n=1))
    service.store.hold = asyncio.Event()
    await service.restart_buffer(inherited=[old.another()])
    await service.clock.advance(1.0)
    await service.keep(put("c", n=1))
    stats = service.buffer.stats()
    assert stats["writes"] == 3
    assert stats["bytes"] == len(encode_writes([put("a", n=1), put("b", n=1), put("c", n=1)]))
    await service.clock.advance(2.0)
    assert service.buffer.stats()["lag_s"] == pytest.approx(3.0, abs=0.1), "not the age of our own oldest"
    draining = asyncio.create_task(service.buffer.drain(1.0))
    await service.clock.advance(1.1)
    assert draining.result() == 3
    draining = asyncio.create_task(service.buffer.drain(10.0))
    await service.clock.advance(1.0)
    assert not draining.done()
    service.store.hold.set()
    await service.clock.advance(3.0)
    assert draining.result() == 0
    assert service.buffer.stats()["writes"] == service.buffer.stats()["bytes"] == service.buffer.stats()["lag_s"] == 0


async def test_of_an_inherited_stream_only_so_many_bytes_are_held_at_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await inherit(service, put("a", n=1))
    for id_ in "bcd":
        await old.append(encode_writes([put(id_, n=1)]))
    size = len(encode_writes([put("a", n=1)]))
    monkeypatch.setattr(heritage, "_PAGE_BYTES", size + 1)
    assert [entry.writes[0].id for entry in await heritage._page(old, service.clock.wall_s())] == ["a", "b"]
    await service.restart_buffer(inherited=[old.another()])
    await service.clock.advance(3.0)
    assert service.stored == {id_: {"n": 1} for id_ in "abcd"}


async def test_what_keeps_an_inherited_stream_and_what_is_refused_of_it_is_told(service: Service) -> None:
    """Else nobody hears why the older streams are not poured, and no alert of what MongoDB refuses of them."""
    old = await inherit(service, put("a", n=1), put("b", n=1))
    service.store.poison["a"] = "E11000"
    await service.kill_writer()
    await service.restart_buffer(inherited=[old.another()])
    await service.clock.advance(1.0)
    assert service.buffer.stats()["last_error"] == "it is being restarted"
    service.new_writer()
    await service.start_writer()
    await service.clock.advance(30.0)
    assert service.stored == {"b": {"n": 1}}
    stats = service.buffer.stats()
    assert (stats["drained_total"], stats["dead_lettered_total"], stats["last_error"]) == (2, 1, "")


async def test_what_is_not_counted_yet_is_no_number(service: Service) -> None:
    old = await inherit(service, put("a", n=1))
    old.faults.plan("replay", *[LogUnavailable("away")] * 100)
    await service.restart_buffer(inherited=[old.another()])
    stats = service.buffer.stats()
    assert (stats["writes"], stats["bytes"], stats["lag_s"]) == (None, None, None)
    draining = asyncio.create_task(service.buffer.drain(0.5))
    await service.clock.advance(0.6)
    with pytest.raises(LogUnavailable, match="not counted"):
        draining.result()


async def test_an_append_that_was_stored_and_forgotten_is_known_again(service: Service) -> None:
    """Its answer was lost; somebody waits, so it is poured at once, before anybody has looked for it in the log."""
    service.log.faults.plan("append reply", OutcomeUnknown("lost"))
    waiting = asyncio.create_task(service.buffer.wait_for("9999999999999-0", 60.0))
    call = service.append(insert("a"))
    await settle()
    await service.clock.advance(5.0)
    assert service.stored == {"a": {}}
    assert not service.log.entries
    assert [answer(call).position] == list(service.log.history)
    await end(waiting)


async def test_what_was_told_to_be_rejected_does_not_come_back_with_a_restart(service: Service) -> None:
    """The reason may be gone by then: another write of the same batch may have removed it."""
    service.store.poison = {"bad": "schema"}
    service.log.faults.plan("acknowledge", *[LogUnavailable("away")] * 3)
    position = (await service.keep(put("bad", n=1), put("good", n=1))).position
    waiting = asyncio.create_task(service.buffer.wait_for(position, 5.0))
    await until(waiting.done, service.clock)
    assert f"{position}/0" in waiting.result().rejections
    await service.kill_buffer()  # at the moment at which its caller hears of it
    service.store.poison = {}
    service.new_buffer()
    await service.start_buffer()
    await service.clock.advance(2.0)
    assert service.stored == {"good": {"n": 1}}


async def test_what_an_older_stream_may_know_better_is_neither_told_nor_cached(service: Service) -> None:
    await service.keep(put("a", n=1), put("b", n=1), put("c", n=1))
    await service.clock.advance(1.0)
    gate = asyncio.Event()

    async def others_are_empty() -> bool:
        return gate.is_set()

    await service.restart_buffer(predecessors_empty=others_are_empty)
    await service.keep(put("b", n=2), patch("c", n=2))
    replaced, *unknown = await service.buffer.read(NAMESPACE, ["b", "a", "c"])
    assert isinstance(replaced, Found)
    assert replaced.source == "buffer"
    assert [type(one) for one in unknown] == [BufferUnavailable] * 2
    await service.buffer.sample(NAMESPACE, 10)
    assert service.cache.documents == {}
    gate.set()
    await service.clock.advance(1.0)
    await read(service, "a")
    assert list(service.cache.documents) == [f"{NAMESPACE}/a"]


async def test_a_reader_is_told_at_once_what_mongodb_has_where_older_streams_are_long_empty(service: Service) -> None:
    await service.keep(put("a", n=1))
    await service.clock.advance(1.0)
    await service.kill_buffer()

    async def long_empty() -> bool:
        return True

    service.new_buffer(predecessors_empty=long_empty)
    await service.buffer.open()
    reading = asyncio.create_task(service.buffer.read(NAMESPACE, ["a"]))
    await service.clock.advance(0.1)
    (found,) = answer(reading)
    assert isinstance(found, Found)
    assert found.source == "mongodb"


# What became of a write


async def state(service: Service, stream: str, position: str, offset: int) -> State:
    (one,) = await service.buffer.states(stream, [f"{position}/{offset}"])
    assert isinstance(one, State)
    return one


async def test_the_state_of_a_write_at_every_stage_and_after_a_restart(service: Service) -> None:
    service.store.poison = {"bad": "schema"}
    service.store.hold = asyncio.Event()
    position = (await service.keep(insert("good"), insert("bad"))).position

    async def states() -> list[tuple[str, str]]:
        return [tuple(await state(service, "0of1", position, offset)) for offset in (0, 1)]

    assert await states() == [("logged", ""), ("logged", "")]
    service.store.hold.set()
    await service.clock.advance(1.0)
    assert await states() == [("stored", ""), ("dead-lettered", "schema")]
    await service.restart_buffer()
    assert await states() == [("stored", ""), ("dead-lettered", "schema")]
    assert (await state(service, "0of1", "9999999999999-0", 0)).name == "unknown"
    assert (await state(service, "7of9", position, 0)).name == "unknown"


async def test_a_shelf_that_does_not_answer_is_asked_once_and_holds_up_no_receipt_that_needs_none(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = (await service.keep(put("a"), put("b"), put("c"))).position
    await service.clock.advance(1.0)
    service.store.hold = asyncio.Event()
    waiting = (await service.keep(put("d"))).position
    asked: list[str] = []

    async def away(id: str) -> None:
        asked.append(id)
        raise LogUnavailable("the time is up", 1.0)

    monkeypatch.setattr(service.log.shelf, "get", away)
    places = [*(f"{position}/{offset}" for offset in range(3)), f"{waiting}/0", "9999999999999-0/0"]
    told = await service.buffer.states("0of1", places)
    assert [type(one) for one in told[:3]] == [LogUnavailable] * 3
    assert told[3:] == [State("logged"), State("unknown")]
    assert asked == [f"0of1/{position}/0"]


async def test_the_state_of_a_write_in_an_inherited_stream(service: Service) -> None:
    old = await inherit(service, put("a", n=1))
    position = next(iter(old.entries))
    gate = asyncio.Event()
    service.store.hold = gate
    await service.restart_buffer(inherited=[old.another()])
    assert (await state(service, "1of2", position, 0)).name == "logged"
    gate.set()
    await service.clock.advance(1.0)
    assert (await state(service, "1of2", position, 0)).name == "stored"
    assert (await state(service, "1of2", "9999999999999-0", 0)).name == "unknown"


async def test_who_waits_for_a_write_that_was_stored_before_a_restart_is_told(service: Service) -> None:
    position = (await service.keep(insert("a"))).position
    await service.clock.advance(1.0)
    await service.restart_buffer()
    waiting = asyncio.create_task(service.buffer.wait_for(position, 5.0))
    await settle()
    resolved = answer(waiting)
    assert resolved.position == resolved.complete_since == position


async def test_who_waits_for_a_rejected_write_hears_the_reason(service: Service) -> None:
    service.store.poison = {"bad": "schema"}
    position = (await service.keep(insert("good"), insert("bad"))).position
    waiting = asyncio.create_task(service.buffer.wait_for(position, 5.0))
    await service.clock.advance(1.0)
    assert answer(waiting).rejections == {f"{position}/1": "schema"}


# Stopping


async def test_a_drain_pours_what_is_there_and_takes_nothing_new(service: Service) -> None:
    await service.keep(*(insert(str(i)) for i in range(250)))
    draining = asyncio.create_task(service.buffer.drain(60.0))
    await settle()
    refused = service.append(insert("late"))
    await service.clock.advance(1.0)
    assert answer(draining) == 0
    assert len(service.stored) == 250
    with pytest.raises(Draining):
        answer(refused)


async def test_a_drain_waits_for_calls_that_were_let_in(service: Service) -> None:
    service.log.faults.plan("ping", LogUnavailable("blink"))
    service.log.faults.plan("append", _unknown())
    call = service.append(insert("a"))
    await settle()
    draining = asyncio.create_task(service.buffer.drain(60.0))
    await settle()
    assert not draining.done(), "it says that nothing is left, and the actor is ended in the middle of an append"
    await service.clock.advance(3.0)
    assert answer(call).position
    assert answer(draining) == 0
    assert service.stored == {"a": {}}


async def test_a_drain_that_runs_out_of_time_says_how_much_is_left(service: Service) -> None:
    service.store.hold = asyncio.Event()
    await service.keep(insert("a"), insert("b"))
    draining = asyncio.create_task(service.buffer.drain(2.0))
    await service.clock.advance(2.1)
    assert answer(draining) == 2
    assert service.log.entries


async def test_the_numbers_for_operators(service: Service) -> None:
    service.store.hold = asyncio.Event()
    await service.keep(insert("a"), keys=[keyed("k", insert("b"), insert("c"))])
    await service.clock.advance(2.0)
    stats = service.buffer.stats()
    assert (stats["writes"], stats["accepted_total"], stats["drained_total"]) == (3, 3, 0)
    assert stats["lag_s"] == pytest.approx(2.0)
    assert stats["ready"]
    assert stats["log_up"]
    service.store.hold.set()
    await service.clock.advance(1.0)
    stats = service.buffer.stats()
    assert (stats["writes"], stats["bytes"], stats["lag_s"], stats["drained_total"]) == (0, 0, 0.0, 3)


async def test_a_log_that_is_away_is_noticed_within_two_seconds_and_so_is_its_return(service: Service) -> None:
    service.log.faults.plan("ping", *[LogUnavailable("away")] * 8)
    await service.clock.advance(2.0)
    assert not service.buffer.stats()["log_up"]
    assert service.buffer.stats()["last_error"] == "away"
    await service.clock.advance(3.0)
    assert service.buffer.stats()["log_up"]
    assert service.buffer.stats()["last_error"] == ""


async def test_a_log_that_has_come_back_is_in_another_epoch(service: Service) -> None:
    service.log.faults.plan("ping", LogUnavailable("blink"))
    before = service.buffer.stats()["epoch"]
    await service.clock.advance(2.0)
    assert service.buffer.stats()["epoch"] == service.log.epoch == before + 1


async def test_a_log_that_could_not_forget_for_a_moment_is_no_trouble_any_more(service: Service) -> None:
    """No flush came behind it, which would have taken the word back."""
    service.log.faults.plan("acknowledge", OutcomeUnknown("Redis did not answer"))
    await service.keep(insert("a"))
    await until(lambda: service.buffer.stats()["last_error"] == "Redis did not answer", service.clock)
    await service.clock.advance(2.0)
    assert not service.log.entries
    assert service.buffer.stats()["last_error"] == ""


async def test_a_writer_that_is_away_is_told(service: Service) -> None:
    await service.kill_writer()
    await service.keep(insert("a"))
    await service.clock.advance(1.0)
    assert service.buffer.stats()["last_error"] == "it is being restarted"


async def test_the_wall_clock_decides_nothing(service: Service) -> None:
    await service.keep(insert("a"))
    service.clock.step_wall(-3_600.0)
    await service.keep(insert("b"))
    await service.clock.advance(0.1)
    service.clock.step_wall(7_200.0)
    await service.keep(insert("c"))
    await service.clock.advance(0.1)
    assert set(service.stored) == {"a", "b", "c"}
    assert not service.log.entries


def _not_sent() -> Exception:
    from actors.core.errors import CommandNotSent

    return CommandNotSent("no connection")


def _unknown() -> Exception:
    from actors.core.errors import OutcomeUnknown

    return OutcomeUnknown("lost")


async def test_an_idle_buffer_that_was_followed_ends_and_answers_no_more_reads(service: Service) -> None:
    """Cut off from Ray, but not from Redis: nobody else tells it."""
    await service.log.another().open()
    await service.clock.advance(3.0)
    assert service.buffer_task is not None
    with pytest.raises(Fenced):
        service.buffer_task.result()

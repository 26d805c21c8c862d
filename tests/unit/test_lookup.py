"""A read that writes overtake: it takes along what leaves the backlog meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import pytest
from composed import delete, insert, patch, put

from actors import lookup
from actors.adapters.clock import settle
from actors.adapters.memory import MemoryCache
from actors.backlog import Backlog
from actors.core.batching import Entry
from actors.core.document import Write
from actors.core.errors import AnswerTooLarge, DatabaseUnavailable
from actors.core.intake import Found
from actors.core.ports import BatchSink
from actors.lookup import Lookup

KEY = ("d.c", "a")


class Overtaken:
    """A buffer's backlog and its reads; `meanwhile` happens while MongoDB is asked."""

    def __init__(self, base: bytes | None, meanwhile: Callable[[Overtaken], Awaitable[None]]) -> None:
        self.base = base
        self.meanwhile = meanwhile
        self.backlog, self.cache = Backlog(), MemoryCache()
        self.lookup = Lookup(self.backlog, cast(BatchSink, self), self.cache, older_poured=True)
        self.asked = 0

    async def find(self, namespace: str, ids: Sequence[str]) -> list[bytes | None]:
        self.asked += 1
        await self.meanwhile(self)
        return [self.base] * len(ids)

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
        await self.meanwhile(self)
        return [(KEY[1], self.base or b"")]

    def keep(self, *writes: Write) -> None:
        self.backlog.add(Entry(f"{self.asked + 1}-{len(self.backlog)}", list(writes), 1, 0.0))

    async def pour(self) -> None:
        """All of the backlog, as an outflow does it once a Report has come."""
        entries = list(self.backlog._entries)
        self.backlog.resolve(entries)
        await self.lookup.drop([KEY])
        self.lookup.leaving(entries)
        self.backlog.forget(len(entries))

    async def read(self) -> Found:
        (found,) = await self.lookup.read(*KEY[:1], [KEY[1]])
        assert isinstance(found, Found)
        return found


async def test_what_left_while_mongodb_was_asked_goes_on_top_of_its_answer() -> None:
    """Which may be from before it was stored, or from after: the later writes follow it in any case."""
    first, second, third = (patch(KEY[1], n=number) for number in range(3))

    async def meanwhile(all_: Overtaken) -> None:
        all_.keep(second)
        await all_.pour()
        all_.keep(third)

    overtaken = Overtaken(b"base", meanwhile)
    overtaken.keep(first)
    assert await overtaken.read() == Found(b"base", [first.body, second.body, third.body], "mongodb")
    assert overtaken.asked == 1


async def test_writes_that_came_and_left_meanwhile_tell_it_all() -> None:
    new, changed, other, gone = insert(KEY[1], n=1), patch(KEY[1], n=2), put(KEY[1], n=3), delete(KEY[1])
    for writes, found in (
        ([new, changed], Found(new.body, [changed.body], "buffer")),
        ([changed, gone], Found(None, [], "buffer")),
        ([gone, new, changed], Found(new.body, [changed.body], "buffer")),
        ([new, other], Found(other.body, [], "buffer")),
    ):

        async def meanwhile(all_: Overtaken, writes: list[Write] = writes) -> None:
            for write in writes:
                all_.keep(write)
                await all_.pour()

        assert await Overtaken(None, meanwhile).read() == found


async def test_what_was_overtaken_is_not_cached() -> None:
    async def meanwhile(all_: Overtaken) -> None:
        all_.keep(patch(KEY[1], n=1))
        await all_.pour()

    overtaken = Overtaken(b"base", meanwhile)
    await overtaken.read()
    assert await overtaken.lookup.near(KEY[0], [KEY[1]]) == [None]


async def test_what_was_read_while_an_older_stream_was_poured_is_not_cached() -> None:
    """Whose last writes may have come behind what MongoDB answered, and drop nothing from this cache."""

    async def meanwhile(all_: Overtaken) -> None:
        all_.lookup.older_are_poured()

    overtaken = Overtaken(b"base", meanwhile)
    overtaken.lookup = Lookup(
        overtaken.backlog, cast(BatchSink, overtaken), overtaken.cache, older_poured=False
    )
    await overtaken.lookup.sample(KEY[0], 1, owns=lambda key: True)
    assert await overtaken.lookup.near(KEY[0], [KEY[1]]) == [None]
    overtaken.meanwhile = _nothing
    await overtaken.read()
    assert await overtaken.lookup.near(KEY[0], [KEY[1]]) == [Found(b"base", [], "cache")]


async def _nothing(all_: Overtaken) -> None: ...


async def test_a_cached_copy_that_is_about_to_be_dropped_gets_what_makes_it_old() -> None:
    """The read begins when the write has its 2xx and MongoDB has it, and the cache cannot be reached just then."""

    overtaken = Overtaken(b"base", _nothing)
    await overtaken.read()  # cached from here on
    write = patch(KEY[1], n=1)
    overtaken.keep(write)
    async with overtaken.lookup._cache_turn:  # as another's put holds it, while Redis syncs
        pouring = asyncio.create_task(overtaken.pour())
        await settle()
        gate = asyncio.Event()

        async def slowly(all_: Overtaken) -> None:
            await gate.wait()

        overtaken.meanwhile = slowly
        reading = asyncio.create_task(overtaken.lookup.read(KEY[0], [KEY[1], "b"]))
        await settle()
    await pouring
    gate.set()
    assert (await reading)[0] == Found(b"base", [write.body], "cache")


async def test_more_changes_than_a_reader_can_wait_for_are_told_and_a_new_version_ends_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten readers of one document would stop the replica for seconds, each with all the changes to put together."""
    monkeypatch.setattr(lookup, "_MOST_PENDING", 3)

    overtaken = Overtaken(b"base", _nothing)
    changes = [patch(KEY[1], n=number) for number in range(4)]
    overtaken.keep(*changes[:3])
    assert await overtaken.read() == Found(b"base", [change.body for change in changes[:3]], "mongodb")
    overtaken.keep(changes[3])
    for ask in (overtaken.lookup.read, overtaken.lookup.near):
        told, other = await ask(KEY[0], [KEY[1], "other"])  # type: ignore[operator]
        assert isinstance(told, DatabaseUnavailable)
        assert "4 changes of it wait" in told.message
        assert not isinstance(other, DatabaseUnavailable)
    new = put(KEY[1], n=9)
    overtaken.keep(new)
    assert await overtaken.read() == Found(new.body, [], "buffer")


def test_what_is_refused_costs_no_look_at_each_of_a_million_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of it would keep everybody else waiting for as long, again and again."""
    monkeypatch.setattr(lookup, "_MOST_PENDING", 3)
    looks = 0

    class Counting(list[Write]):
        def __getitem__(self, at: object) -> Write:  # type: ignore[override]
            nonlocal looks
            looks += 1
            return super().__getitem__(at)  # type: ignore[no-any-return, call-overload]

    assert isinstance(lookup._overlay(Counting([patch(KEY[1])] * 100)), DatabaseUnavailable)
    assert looks == 3
    whole = put(KEY[1], n=1)
    assert lookup._overlay([patch(KEY[1])] * 100 + [whole] + [patch(KEY[1])] * 2) == Found(
        whole.body, [patch(KEY[1]).body] * 2, "buffer"
    )


async def test_a_sample_only_notes_which_documents_are_overtaken() -> None:
    """To take along all that is pending would be a flood's 200,000 writes to one document, with each batch of them."""

    async def nothing(all_: Overtaken) -> None: ...

    overtaken = Overtaken(None, nothing)
    overtaken.keep(patch(KEY[1], n=1))
    with overtaken.lookup._watched(KEY[0], None) as reading:
        await overtaken.pour()
    assert reading.left == {KEY: {}}


async def test_what_no_channel_carries_is_not_packed_to_find_that_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of documents that are still on their way as of those that MongoDB has; and of what is told, all is told."""
    monkeypatch.setattr(lookup, "ANSWER_BYTES", 100)
    reader = Overtaken(b"x" * 40, _nothing)
    reader.keep(put("huge", n="x" * 100), put("a", n="x" * 20))
    ids = ["b", "huge", "c", "d", "a"]
    near = dict(zip(ids, await reader.lookup.near("d.c", ids), strict=True))
    assert [type(near[id_]) for id_ in ids] == [type(None), AnswerTooLarge, type(None), type(None), Found]
    told = dict(zip(ids, await reader.lookup.read("d.c", ids), strict=True))
    assert [id_ for id_, one in told.items() if isinstance(one, Found)] == ["b", "a"]
    assert all(isinstance(told[id_], AnswerTooLarge) for id_ in ("huge", "c", "d"))

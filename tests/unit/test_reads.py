"""Questions to MongoDB that fail, or whose answer does not hold them all: whoever waits is told. The rest is tested
through the writer."""

from __future__ import annotations

import asyncio

import pytest

from actors import reads as reads_module
from actors.adapters.clock import settle
from actors.adapters.memory import MemoryStore
from actors.core.errors import AnswerTooLarge, CommandFailed, DatabaseUnavailable
from actors.reads import Ask, Reads


def next_of(reads: Reads) -> Ask:
    ask = reads.next()
    assert ask is not None
    return ask


@pytest.mark.parametrize("fails", [False, True])
async def test_what_did_not_fit_and_was_asked_for_meanwhile_is_told_to_both(fails: bool) -> None:
    store = MemoryStore()
    store.documents.update({("d.c", id_): id_.encode() for id_ in "ab"})
    store.answer_holds, store.hold = 1, asyncio.Event()
    reads = Reads(store, lambda: None)
    first = asyncio.create_task(reads.find("d.c", ["a", "b"]))
    await settle()
    asked = asyncio.create_task(next_of(reads)())
    await settle()
    meanwhile = asyncio.create_task(reads.find("d.c", ["b"]))
    await settle()
    store.hold.set()
    await asked
    await settle()
    if not fails:
        await next_of(reads)()
        await settle()
        assert (first.result(), meanwhile.result()) == ([b"a", b"b"], [b"b"])
        return
    store.faults.plan("find", CommandFailed("no primary"))
    with pytest.raises(CommandFailed):
        await next_of(reads)()
    await settle()
    with pytest.raises(DatabaseUnavailable, match="no primary"):
        meanwhile.result()
    known, unknown = first.result()  # what is in hand is told, and the other is to be asked for again
    assert known == b"a"
    assert isinstance(unknown, AnswerTooLarge)


async def test_so_many_bytes_are_told_at_once_and_nothing_is_asked_for_that_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fifty documents of 15 MiB would all be held, and packed, before it is found that no answer carries them."""
    monkeypatch.setattr(reads_module, "ANSWER_BYTES", 25)
    store = MemoryStore()
    ids = [str(number) for number in range(10, 20)]
    store.documents.update({("d.c", id_): b"x" * 10 for id_ in ids})
    store.answer_holds = 1
    reads = Reads(store, lambda: None)
    left, commands = ids, 0
    while left:
        reading = asyncio.create_task(reads.find("d.c", left))
        await settle()
        while ask := reads.next():
            await ask()
            commands += 1
            await settle()
        told = dict(zip(left, reading.result(), strict=True))
        left = [id_ for id_, one in told.items() if isinstance(one, AnswerTooLarge)]
        assert [id_ for id_, one in told.items() if one == b"x" * 10] == list(told)[:3]
    assert commands == len(ids)


async def test_a_sample_that_fails_is_told() -> None:
    store = MemoryStore()
    store.faults.plan("sample", CommandFailed("no primary"))
    reads = Reads(store, lambda: None)
    sample = asyncio.create_task(reads.sample("d.c", 5))
    await settle()
    with pytest.raises(CommandFailed):
        await next_of(reads)()
    await settle()
    with pytest.raises(DatabaseUnavailable, match="no primary"):
        sample.result()

"""Questions to MongoDB that fail, or whose answer does not hold them all: whoever waits is told. The rest is tested
through the writer."""

from __future__ import annotations

import asyncio

import pytest

from actors.adapters.clock import settle
from actors.adapters.memory import MemoryStore
from actors.core.errors import CommandFailed, DatabaseUnavailable
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
    if not fails:
        await next_of(reads)()
        await settle()
        assert (first.result(), meanwhile.result()) == ([b"a", b"b"], [b"b"])
        return
    store.faults.plan("find", CommandFailed("no primary"))
    with pytest.raises(CommandFailed):
        await next_of(reads)()
    await settle()
    for reader in (first, meanwhile):
        with pytest.raises(DatabaseUnavailable, match="no primary"):
            reader.result()


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

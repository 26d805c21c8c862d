"""One body for every shelf of dead letters: what the double promises, Redis keeps."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.adapters import redis_dead_letters
from actors.adapters.clock import settle
from actors.adapters.memory import MemoryLog
from actors.adapters.redis_dead_letters import RedisDeadLetters
from actors.adapters.redis_link import connect
from actors.adapters.redis_log import RedisLog
from actors.core.dead_letter import EVERY, DeadLetter, Page, Selection
from actors.core.document import Kind, Write, encode_writes
from actors.core.errors import BufferUnavailable
from actors.core.ports import DeadLetters, WriteLog
from cluster.embedded import redis_server
from tests.acceptance.proxy import FaultProxy, half_open
from tests.conftest import KEEPERS


@pytest.fixture(**KEEPERS)
async def log(request: pytest.FixtureRequest) -> AsyncIterator[WriteLog]:
    """With its shelf; nothing else is asked of it here."""
    if request.param == "memory":
        yield MemoryLog("0of1")
        return
    client = connect(request.getfixturevalue(request.param), 2.0)
    prefix = f"t{uuid.uuid4().hex}"
    yield RedisLog(client, prefix, "0of1", RedisDeadLetters(client, prefix), once_ttl_s=60)
    await client.aclose()


@pytest.fixture
def shelf(log: WriteLog) -> DeadLetters:
    found: DeadLetters = log.shelf if isinstance(log, MemoryLog) else log._dead_letters  # type: ignore[attr-defined]
    return found


def letter(number: int, namespace: str = "d.c", body: bytes = b"\x00body", **changes: Any) -> DeadLetter:
    payload = encode_writes([Write(Kind.PUT, namespace, f"id{number}", body)])
    return DeadLetter(f"0of1/1-{number}/0", payload, "why: é", 1, 1.25, float(number))._replace(**changes)


async def run(shelf: DeadLetters, selection: Selection = EVERY, limit: int = 100) -> list[Page]:
    pages = [await shelf.list(selection, limit)]
    while pages[-1].next:
        pages.append(await shelf.list(selection, limit, pages[-1].next))
    return pages


def letters(pages: list[Page]) -> list[DeadLetter]:
    return [one for page in pages for one in page.letters]


async def test_a_dead_letter_is_kept_once_and_as_it_is(log: WriteLog, shelf: DeadLetters) -> None:
    await log.dead_letter([letter(1), letter(2)])
    await log.dead_letter([letter(1, reason="again"), letter(3)])
    page = await shelf.list()
    assert page == Page([letter(1), letter(2), letter(3)], 3, "", page.end, 3)
    assert await shelf.get(letter(2).id) == letter(2)
    assert await shelf.size() == 3


async def test_a_letter_that_arrives_late_does_not_come_back(log: WriteLog, shelf: DeadLetters) -> None:
    """Its bytes were in a socket that broke; it was sent again, the log trimmed, and the letter replayed or discarded.
    Replayed once more it would take MongoDB back behind all that was written since."""
    await log.open()
    positions = [(await log.append(f"{n}".encode())).position for n in range(3)]
    one, two, three = (letter(n)._replace(id=f"0of1/{at}/0") for n, at in enumerate(positions))
    await log.dead_letter([one, two])
    await log.acknowledge(positions[1])
    await shelf.remove([one.id])
    await log.dead_letter([one, two, three])
    assert letters(await run(shelf)) == [two, three]


async def test_an_empty_shelf(shelf: DeadLetters) -> None:
    await shelf.add([])
    assert await shelf.list() == Page([], 0, "", "0-0", 0)
    assert await shelf.remove([]) == await shelf.remove([letter(1).id]) == await shelf.size() == 0


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 30, 100])
async def test_pages_hold_every_letter_once_and_in_order(shelf: DeadLetters, limit: int) -> None:
    await shelf.add([letter(i) for i in range(60)])
    pages = await run(shelf, limit=limit)
    assert letters(pages) == [letter(i) for i in range(60)]
    assert sum(page.scanned for page in pages) == 60
    assert all(len(page.letters) == limit for page in pages[:-1])


async def test_letters_that_leave_or_come_meanwhile_break_no_run(shelf: DeadLetters) -> None:
    """As in a replay of all whose writes are rejected again: without an end it would never have one."""
    await shelf.add([letter(i) for i in range(5)])
    page = await shelf.list(limit=2)
    seen = page.letters
    while page.next:
        assert await shelf.remove([one.id for one in page.letters]) == 2
        await shelf.add([letter(100 + len(seen)), letter(200 + len(seen))])
        page = await shelf.list(limit=2, after=page.next)
        seen = seen + page.letters
        assert len(seen) <= 5
    assert seen == [letter(i) for i in range(5)]
    assert await shelf.size() == 5


async def test_a_run_can_be_held_to_the_end_of_another(shelf: DeadLetters) -> None:
    """Or an operator who is asked about three discards what came while he read."""
    assert (await shelf.list()).end == "0-0"
    await shelf.add([letter(i) for i in range(3)])
    first = await shelf.list(limit=1)
    assert first.size == 3
    await shelf.add([letter(i) for i in range(3, 8)])
    again = await shelf.list(limit=2, after=f"0-0_{first.end}")
    assert again.size == 8
    assert letters([again, await shelf.list(after=again.next)]) == [letter(i) for i in range(3)]
    await shelf.remove([letter(i).id for i in range(3)])
    assert letters([await shelf.list(after=f"0-0_{first.end}")]) == []
    assert letters([await shelf.list(after=f"{first.end}_{again.end}")]) == [letter(i) for i in range(3, 8)]
    await shelf.remove([letter(7).id])
    assert (await shelf.list(limit=4)).end == (await shelf.list(limit=1, after=f"0-0_{again.end}")).end < again.end
    await shelf.remove([letter(i).id for i in range(8)])
    assert (await shelf.list()).end == "0-0"


async def test_letters_are_selected(shelf: DeadLetters) -> None:
    of = [letter(0), letter(1, "d.other"), letter(2, reason="E11000 duplicate"), letter(3, "d.other", reason="E11000")]
    await shelf.add(of)
    cases = [
        (EVERY, of), (Selection(namespace="d.other"), [of[1], of[3]]), (Selection(namespace="d.oth"), []),
        (Selection(reason="e11000"), of[2:]), (Selection("d.other", "E11000"), of[3:]),
        (Selection(reason="É"), of[:2]), (Selection(since_s=2.0), of[2:]), (Selection(before_s=2.0), of[:2]),
        (Selection(since_s=1.0, before_s=3.0), of[1:3]),
    ]  # fmt: skip
    for selection, expected in cases:
        for limit in (1, 100):
            pages = await run(shelf, selection, limit)
            assert letters(pages) == expected, selection
            assert sum(page.scanned for page in pages) == 4


async def test_letters_are_removed_by_their_ids(shelf: DeadLetters) -> None:
    await shelf.add([letter(i) for i in range(5)])
    assert await shelf.remove([letter(1).id, letter(3).id, letter(9).id]) == 2
    assert await shelf.remove([letter(1).id]) == 0
    assert await shelf.get(letter(1).id) is None
    assert letters(await run(shelf)) == [letter(0), letter(2), letter(4)]


async def test_a_removed_letter_may_come_again(shelf: DeadLetters) -> None:
    await shelf.add([letter(1)])
    await shelf.remove([letter(1).id])
    await shelf.add([letter(1, reason="again")])
    assert letters(await run(shelf)) == [letter(1, reason="again")]


# Redis only: what a page may cost


@pytest.fixture
async def redis_shelf(redis_url: str) -> AsyncIterator[DeadLetters]:
    client = connect(redis_url, 2.0)
    yield RedisDeadLetters(client, f"t{uuid.uuid4().hex}")
    await client.aclose()


async def test_a_page_ends_when_enough_has_been_looked_at(
    redis_shelf: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_dead_letters, "_SCAN", 40)
    of = [letter(i, "d.rare" if i == 90 else "d.c") for i in range(100)]
    await redis_shelf.add(of)
    pages = await run(redis_shelf, Selection(namespace="d.rare"))
    assert [page.scanned for page in pages] == [40, 40, 20]
    assert [page.letters for page in pages] == [[], [], [of[90]]]


async def test_a_page_ends_when_enough_bytes_have_been_looked_at(
    redis_shelf: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of letters that are not taken too: all of them come through one buffer, within its time for one question."""
    monkeypatch.setattr(redis_dead_letters, "_SCAN_BYTES", 10_000)
    monkeypatch.setattr(redis_dead_letters, "_CHUNK", 2)
    of = [letter(i, "d.rare" if i == 9 else "d.c", b"x" * 4_000) for i in range(10)]
    await redis_shelf.add(of)
    pages = await run(redis_shelf, Selection(namespace="d.rare"))
    assert [page.scanned for page in pages] == [4, 4, 2]
    assert letters(pages) == [of[9]]


async def test_a_page_ends_when_it_is_large_enough(redis_shelf: DeadLetters, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_dead_letters, "_PAGE_BYTES", 1_000)
    of = [letter(i, body=b"x" * 400) for i in range(7)] + [letter(7, body=b"x" * 5_000)]
    await redis_shelf.add(of)
    pages = await run(redis_shelf)
    assert [len(page.letters) for page in pages] == [3, 3, 2]
    assert letters(pages) == of


async def test_a_page_reads_little_more_of_redis_than_it_takes(
    redis_shelf: DeadLetters, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty letters of 16 MiB each, read for a page of one, would be more than Redis may hold."""
    monkeypatch.setattr(redis_dead_letters, "_CHUNK_BYTES", 40_000)
    await redis_shelf.add([letter(i, body=b"x" * 40_000) for i in range(20)])
    client = connect(redis_url, 2.0)
    before = (await client.info("stats"))["total_net_output_bytes"]
    page = await redis_shelf.list(limit=1)
    sent = (await client.info("stats"))["total_net_output_bytes"] - before
    await client.aclose()
    assert len(page.letters) == 1
    assert sent < 2 * 40_000


async def test_pages_and_letters_are_read_two_at_a_time_and_so_many_may_wait(
    redis_url: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may be some MiB, and Redis counts what it is about to send as its memory."""
    monkeypatch.setattr(redis_dead_letters, "_MAX_WAITING", 20)
    client = connect(redis_server.address(proxy.port), 60.0)
    shelf = RedisDeadLetters(client, f"t{uuid.uuid4().hex}")
    await shelf.add([letter(1)])
    await asyncio.to_thread(proxy.inflict, half_open())
    pages = [asyncio.create_task(shelf.list()) for _ in range(30)]
    removal = asyncio.create_task(shelf.remove([letter(2).id]))
    await settle()
    assert len(client.connection_pool._in_use_connections) == 3
    assert sum(page.done() for page in pages) == 30 - 2 - 20
    await asyncio.to_thread(proxy.heal)
    told = await asyncio.gather(*pages, return_exceptions=True)
    assert [type(one) for one in told] == [Page] * 22 + [BufferUnavailable] * 8
    assert await removal == 0
    await client.aclose()


async def test_a_full_redis_takes_a_letter_or_the_log_could_not_be_trimmed(
    redis_shelf: RedisDeadLetters, redis_url: str
) -> None:
    client = connect(redis_url, 2.0)
    limit = (await client.config_get("maxmemory"))["maxmemory"]
    await client.config_set("maxmemory", (await client.info("memory"))["used_memory"] // 2)
    try:
        for some in ([letter(1)], [letter(1), letter(2)]):
            await redis_shelf.add(some)
    finally:
        await client.config_set("maxmemory", limit)
        await client.aclose()
    assert letters(await run(redis_shelf)) == [letter(1), letter(2)]

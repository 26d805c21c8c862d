"""Idempotency keys, one body for every log: all or nothing, once, for their whole time, and bounded in number."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from actors.adapters.clock import ManualClock
from actors.adapters.memory import MemoryDeadLetters, MemoryLog
from actors.adapters.redis_dead_letters import RedisDeadLetters
from actors.adapters.redis_link import connect
from actors.adapters.redis_log import RedisLog
from actors.core.ports import Keyed, WriteLog
from tests.conftest import KEEPERS

MOST = 3


@dataclass
class Bounded:
    """Logs that remember `MOST` keys; `pass_time` lets seconds pass for them. `other` is the stream of another buffer,
    None where the double has none."""

    log: WriteLog
    other: WriteLog | None
    pass_time: Callable[[float], Awaitable[None]]


@pytest.fixture
def once_ttl_s() -> int:
    """Longer than the slowest machine needs for a test; who waits for the end of a key gives a shorter one."""
    return 60


@pytest.fixture(**KEEPERS)
async def bounded(request: pytest.FixtureRequest, once_ttl_s: int) -> AsyncIterator[Bounded]:
    if request.param == "memory":
        clock = ManualClock()
        log = MemoryLog("0of2", MemoryDeadLetters(), clock, once_ttl_s=once_ttl_s, once_max=MOST)
        await log.open()
        yield Bounded(log, None, clock.advance)
        return
    client = connect(request.getfixturevalue(request.param), 60.0)
    prefix = f"t{uuid.uuid4().hex}"
    letters = RedisDeadLetters(client, prefix)
    logs = [RedisLog(client, prefix, name, letters, once_ttl_s=once_ttl_s, once_max=MOST) for name in ("0of2", "1of2")]
    for log in logs:
        await log.open()
    yield Bounded(logs[0], logs[1], asyncio.sleep)
    await client.aclose()


def keyed(*keys: str) -> list[Keyed]:
    return [Keyed(key, "f", key.encode()) for key in keys]


async def payloads(log: WriteLog) -> list[bytes]:
    return [logged.payload async for logged in log.replay()]


async def test_beyond_the_bound_a_new_key_keeps_nothing_and_a_known_one_is_still_known(bounded: Bounded) -> None:
    first = await bounded.log.append(b"", keyed("a", "b"))
    answers = (await bounded.log.append(b"plain", keyed("c", "d", "a", "e"))).keyed
    assert [(answer.fresh, answer.full) for answer in answers] == [
        (True, False), (False, True), (False, False), (False, True),
    ]  # fmt: skip
    assert answers[2].position == first.keyed[0].position
    assert sorted(await payloads(bounded.log)) == [b"a", b"b", b"c", b"plain"]
    conflict = (await bounded.log.append(b"", [Keyed("a", "other", b"x")])).keyed[0]
    assert (conflict.conflict, conflict.full) == (True, False)


@pytest.mark.parametrize("once_ttl_s", [1])
async def test_there_is_room_again_when_the_first_keys_have_had_their_time(bounded: Bounded) -> None:
    await bounded.log.append(b"", keyed("a", "b", "c"))
    assert (await bounded.log.append(b"", keyed("d"))).keyed[0].full
    await bounded.pass_time(3.2)  # its second, and what the count may err
    again = (await bounded.log.append(b"", keyed("d", "a", "e", "f"))).keyed
    assert [(answer.fresh, answer.full) for answer in again] == [
        (True, False), (True, False), (True, False), (False, True),
    ]  # fmt: skip


@pytest.mark.parametrize("bounded", ["redis_url", "oldest_redis_url"], indirect=True)  # the double is one stream
async def test_the_bound_is_for_all_streams_together(bounded: Bounded) -> None:
    assert bounded.other is not None
    await bounded.log.append(b"", keyed("a", "b"))
    answers = (await bounded.other.append(b"", keyed("c", "d", "a"))).keyed
    assert [answer.full for answer in answers] == [False, True, False]
    assert answers[2].position.startswith("0of2/"), "a record is the same for every buffer"


async def test_a_thousand_equal_requests_at_once_are_one(bounded: Bounded) -> None:
    answers = await asyncio.gather(*(bounded.log.append(b"", keyed("k")) for _ in range(1_000)))
    assert sum(answer.keyed[0].fresh for answer in answers) == 1
    assert len({answer.keyed[0].position for answer in answers}) == 1
    assert await payloads(bounded.log) == [b"k"]

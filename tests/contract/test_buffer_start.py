"""A BufferActor on a real Redis: who calls it while it starts waits for it, and who only reads is in nobody's way."""

from __future__ import annotations

import asyncio
import re
import uuid
from typing import Any, cast

import pytest

from actors import life
from actors.adapters.redis_dead_letters import RedisDeadLetters
from actors.adapters.redis_link import connect
from actors.adapters.redis_log import RedisLog
from actors.adapters.redis_streams import follow
from actors.calls import Remote
from actors.core.dead_letter import EVERY
from actors.core.document import Kind, Write, encode_writes
from actors.core.errors import SpillwayError
from actors.lane import Lane
from actors.remote import BufferActor
from cluster import launch
from cluster.settings import load


class Beside:
    """An actor in this very process, called like one in another."""

    name = "beside"

    def __init__(self, actor: BufferActor) -> None:
        self._actor = actor
        self.refusals = 0

    async def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        answer = await getattr(self._actor, method)(*arguments)
        if isinstance(answer, SpillwayError):
            self.refusals += 1
            raise answer
        return answer


async def test_a_call_that_finds_the_buffer_reading_its_log_waits_for_it(redis_url: str) -> None:
    """Refused, it would be a 504 for whoever had asked the buffer before it died, and a 503 for all others."""
    (config,) = launch.buffer_configs(load(redis_url=redis_url, key_prefix=f"t{uuid.uuid4().hex[:8]}"), "no-writer")
    actor = BufferActor(config)
    beside = Beside(actor)
    try:
        assert await Lane(cast(Remote, beside), timeout_s=30.0).append(b"", 0, lambda *place: place) == ("", 0)
        assert beside.refusals > 0
    finally:
        actor._life.cancel()
        await asyncio.wait([actor._life])


FROM_THE_FUTURE = encode_writes([Write(Kind.DELETE + 1, "d.c", "x", b"")])
CANNOT = "0of1 holds an entry at .* that this version cannot read"


@pytest.mark.parametrize("buffers", [(1,), (1, 2), (1, 2, 3)], ids=["own", "inherited", "of the pool before the last"])
@pytest.mark.parametrize("field", ["w1", "w2"])
async def test_what_a_newer_version_has_left_in_a_log_is_told_as_long_as_it_is_there(
    redis_url: str, field: str, buffers: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ended, and Ray started it again for ever; or it waited, and gave no reason."""
    monkeypatch.setattr(life, "_die", pytest.fail)  # which would end this process
    redis, prefix = connect(redis_url, 60.0), f"t{uuid.uuid4().hex[:8]}"
    await RedisLog(redis, prefix, "0of1", RedisDeadLetters(redis, prefix), once_ttl_s=60).open()
    for size in buffers[:-1]:
        assert await follow(redis, prefix, size) == []
    await redis.xadd(f"{prefix}:stream:0of1", {field: FROM_THE_FUTURE})
    heir = launch.buffer_configs(load(redis_url=redis_url, key_prefix=prefix, buffers=buffers[-1]), "no-writer")[0]
    actor = BufferActor(heir)

    async def told(reason: str) -> None:
        async with asyncio.timeout(60.0):
            while True:
                if actor._life.done():
                    actor._life.result()
                stats = await actor.stats()
                if re.search(reason, str(stats) if isinstance(stats, SpillwayError) else stats["last_error"]):
                    return
                await asyncio.sleep(0.05)

    try:
        await told(CANNOT)
        await redis.delete(f"{prefix}:stream:0of1")  # as if the newer version had poured it
        await told("^$")
    finally:
        actor._life.cancel()
        await asyncio.wait([actor._life])
        await redis.aclose()


async def test_whoever_reads_dead_letters_takes_no_connection_of_the_log(redis_url: str) -> None:
    """With all of them taken, appends were refused and the log said to be away, by a hundred callers who only read."""
    (config,) = launch.buffer_configs(load(redis_url=redis_url, key_prefix=f"t{uuid.uuid4().hex[:8]}"), "no-writer")
    actor = BufferActor(config)
    try:
        assert await Lane(cast(Remote, Beside(actor)), timeout_s=30.0).append(b"", 0, lambda *place: place) == ("", 0)
        asked = [actor.dead_letters(EVERY, 100, ""), actor.dead_letter("0of1/1-0/0"), actor.states("0of1", ["0-0/0"])]
        more = [actor.dead_letters(EVERY, 100, "") for _ in range(60)]
        answers = await asyncio.gather(*asked, *more, actor.forget_dead_letters(["0of1/1-0/0"]))
        assert not [answer for answer in answers if isinstance(answer, SpillwayError)]
        pool = actor._redis.connection_pool
        assert len(pool._available_connections) + len(pool._in_use_connections) < 10
    finally:
        actor._life.cancel()
        await asyncio.wait([actor._life])

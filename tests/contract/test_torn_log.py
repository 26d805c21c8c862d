"""An append-only file whose end was torn inside a transaction: what is acknowledged behind it outlives every later
start of Redis. Only Redis 7 could lose it: 6.2 writes each append as a transaction, and Valkey 9 cuts a torn one off.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from actors.adapters.redis_dead_letters import RedisDeadLetters
from actors.adapters.redis_link import connect
from actors.adapters.redis_log import RedisLog
from actors.core.errors import LogUnavailable
from cluster.embedded import ports, redis_server
from cluster.embedded.child import Child, Recipe
from tests.acceptance.disk import append_only_file

LONG_S = 60.0


class Torn:
    """A Redis that is killed, loses the end of its file, and starts again."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self._recipe = recipe
        self._folder = folder
        self.start()

    def start(self) -> None:
        self._child = Child(self._recipe)
        self._child.start()
        self._child.await_ready()

    def kill(self, torn: int = 0) -> None:
        """`torn`: bytes that never came to the disk."""
        assert self._child.pid is not None
        os.kill(self._child.pid, signal.SIGKILL)
        self._child.stop()
        os.truncate(self.file, self.file.stat().st_size - torn)

    @property
    def file(self) -> Path:
        return append_only_file(self._folder)

    def stop(self) -> None:
        self._child.stop()


@pytest.fixture
async def torn(each_server: redis_server.RedisServer, tmp_path: Path) -> AsyncIterator[tuple[Torn, RedisLog]]:
    port = ports.free_port(0)
    redis = Torn(redis_server.recipe(each_server, port, tmp_path, tmp_path / "redis.log", 1 << 28), tmp_path)
    client = connect(redis_server.address(port), LONG_S)
    log = RedisLog(client, "p", "0of1", RedisDeadLetters(client, "p"), once_ttl_s=60)
    await log.open()
    yield redis, log
    await client.aclose()
    redis.stop()


async def _nothing(_: RedisLog) -> None: ...


async def _asked_before(log: RedisLog) -> None:
    """The reopen whose answer is lost came before the tear; the next one finds its epoch begun already."""
    epoch = log.epoch
    await log.reopen()
    log._epoch = epoch


@pytest.mark.parametrize("before", [_nothing, _asked_before])
async def test_what_is_kept_behind_a_torn_acknowledgement_outlives_the_next_start(
    torn: tuple[Torn, RedisLog], before: Callable[[RedisLog], Awaitable[None]]
) -> None:
    """Redis leaves the beginning of the transaction in its file. One of version 7 writes a single XADD without a
    transaction around it, so that it stands inside of the torn one, and is dropped with it at the start after that."""
    redis, log = torn
    position = (await log.append(b"poured")).position
    await before(log)
    await log.acknowledge(position)
    redis.kill(torn=5)
    redis.start()
    await log._client.connection_pool.disconnect()
    await log.reopen()
    kept = [(await log.append(b"x")).position for _ in range(3)]
    redis.kill()
    redis.start()
    await log._client.connection_pool.disconnect()
    assert [logged.position async for logged in log.replay()][-3:] == kept


@pytest.mark.parametrize("before", [_nothing, _asked_before])
async def test_a_reopen_is_a_transaction_in_the_file(
    torn: tuple[Torn, RedisLog], before: Callable[[RedisLog], Awaitable[None]]
) -> None:
    """What ends a torn one, on whatever Redis this runs."""
    redis, log = torn
    await before(log)
    known = redis.file.stat().st_size
    await log.reopen()
    written = redis.file.read_bytes()[known:].split(b"\r\n")
    assert b"MULTI" in written
    assert written[-2] == b"EXEC"


async def test_a_redis_that_was_started_anew_between_two_looks_is_noticed(torn: tuple[Torn, RedisLog]) -> None:
    """Or nobody would reopen, which ends what was torn: others of the process may have met the broken connection."""
    redis, log = torn
    await log.ping()
    redis.kill()
    redis.start()
    await log._client.connection_pool.disconnect()
    with pytest.raises(LogUnavailable, match="started anew"):
        await log.ping()
    await log.ping()  # or it would never be reopened
    await log.reopen()
    await log.ping()

"""Round trips to Redis that come to nothing: whose connection says nothing or is reset, at whatever point that meets
them, and those that Redis answers with an error."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop
from redis._parsers.base import BaseParser

from actors.adapters.redis_dead_letters import RedisDeadLetters
from actors.adapters.redis_link import Client, connect, reading, telling
from actors.adapters.redis_log import RedisLog
from actors.core.dead_letter import DeadLetter
from actors.core.errors import LogUnavailable, OutcomeUnknown, SpillwayError
from actors.core.ports import Keyed
from cluster.embedded import redis_server
from tests.acceptance.proxy import FaultProxy
from tests.conftest import redis_running


async def test_a_redis_that_takes_the_connection_and_says_nothing_was_surely_not_written_to() -> None:
    """As one that is stopped does: the kernel connects, and the handshake gets no answer."""
    silent = await asyncio.start_server(lambda reader, writer: asyncio.sleep(60), "127.0.0.1", 0)
    client = connect(redis_server.address(silent.sockets[0].getsockname()[1]), timeout_s=0.3)
    with pytest.raises(LogUnavailable, match="no connection"):
        async with telling(client):
            await client.set("a", "b")
    await client.aclose()
    silent.close()


def test_a_reset_under_a_round_trip_is_an_unavailable_log_also_on_uvloop(proxy: FaultProxy) -> None:
    """The loop that Ray's actors run on: a write to a connection that was just reset raises a RuntimeError there."""

    async def ask_always(client: Client) -> None:
        while True:
            with suppress(LogUnavailable):
                async with reading(client):
                    await client.ping()
            await asyncio.sleep(0)

    async def ask_while_connections_break() -> None:
        client = connect(redis_server.address(proxy.port), timeout_s=5.0)
        async with asyncio.TaskGroup() as group:  # raises what ends one of them
            asking = [group.create_task(ask_always(client)) for _ in range(6)]
            for _ in range(5):
                await asyncio.sleep(0.1)
                await asyncio.to_thread(proxy.refuse)
                await asyncio.sleep(0.1)
                await asyncio.to_thread(proxy.accept)
            for task in asking:
                task.cancel()
        await client.aclose()

    uvloop.run(ask_while_connections_break())


@pytest.fixture
async def own(each_server: redis_server.RedisServer, tmp_path: Path) -> AsyncIterator[Client]:
    """A Redis of the test's own, whose settings and users it may change."""
    for url in redis_running(each_server, tmp_path):
        client = connect(url, 60.0)
        yield client
        await client.aclose()


WRITES_ONCE = "redis.call('GET', KEYS[1]) redis.call('SET', KEYS[1], 'kept')"
WRITES_TWICE = "redis.call('SET', KEYS[1], 'kept') "
AFTERWARDS = {  # what is said to a script that has written
    "a time without end": "redis.call('SET', KEYS[1] .. '2', 'x', 'EX', '10000000000000000')",
    "a key of another kind": "redis.call('XLEN', KEYS[1])",
    "a command that is forbidden": "redis.call('HSET', KEYS[1] .. '2', 'x', 'y')",
    "a key that is forbidden": "redis.call('SET', 'elsewhere', 'x')",
    "a mistake of ours": "local x = nil + 1",
}
STATES: dict[str, list[Any]] = {
    "OOM": ["CONFIG", "SET", "maxmemory", "1"],
    "NOREPLICAS": ["CONFIG", "SET", "min-replicas-to-write", "1"],
    "READONLY": ["REPLICAOF", "127.0.0.1", "1"],
}


async def limited(own: Client, *rights: str) -> Client:
    """The same Redis for a user who lacks something."""
    await own.execute_command("ACL", "SETUSER", "limited", "on", ">word", "~*", "+@all", *rights)
    port = own.connection_pool.connection_kwargs["port"]
    return connect(f"redis://limited:word@127.0.0.1:{port}/0", 60.0)


async def said(client: Client, script: str, sha: bool = False) -> SpillwayError:
    try:
        async with telling(client):
            await (client.evalsha if sha else client.eval)(script, 1, "ours")
    except SpillwayError as error:
        return error
    pytest.fail("it was done")


async def test_a_script_that_is_refused_before_it_writes_has_surely_kept_nothing(own: Client) -> None:
    unknown = await said(own, "0" * 40, sha=True)
    assert isinstance(unknown, LogUnavailable), unknown
    forbidden = await limited(own, "-eval")
    assert isinstance(await said(forbidden, WRITES_ONCE), LogUnavailable)
    await forbidden.aclose()
    for state, command in STATES.items():
        await own.execute_command(*command)
        error = await said(own, WRITES_ONCE)
        assert isinstance(error, LogUnavailable), state
        assert await own.exists("ours") == 0
        await own.config_set("maxmemory", "0")
        await own.config_set("min-replicas-to-write", "0")


@pytest.mark.parametrize("failure", AFTERWARDS)
async def test_a_script_that_fails_after_a_write_may_have_kept_it(own: Client, failure: str) -> None:
    user = await limited(own, "-hset", "resetkeys", "~ours*")
    error = await said(user, WRITES_TWICE + AFTERWARDS[failure])
    await user.aclose()
    assert isinstance(error, OutcomeUnknown), error
    assert await own.get("ours") == b"kept", "a script is not undone"


async def test_an_append_that_fails_behind_an_entry_is_not_told_to_have_kept_nothing(own: Client) -> None:
    log = RedisLog(own, "p", "0of1", RedisDeadLetters(own, "p"), once_ttl_s=10**16)
    await log.open()
    with pytest.raises(OutcomeUnknown, match="invalid expire"):
        await log.append(b"plain", [Keyed("k", "f", b"keyed")])
    assert [logged.payload async for logged in log.replay()] == [b"plain", b"keyed"]


async def test_a_dead_letter_whose_place_cannot_be_noted_is_not_added_again_and_again(own: Client) -> None:
    shelf = RedisDeadLetters(await limited(own, "-hset"), uuid.uuid4().hex)
    for _ in range(2):
        with pytest.raises(OutcomeUnknown):
            await shelf.add([DeadLetter("0of1/1-1/0", b"", "why", 1, 1.0, 1.0)])
    assert await shelf.size() == 0
    await shelf._client.aclose()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        # Redis 7, which no test starts
        ("OOM command not allowed when used memory > 'maxmemory'. script: 5ab3, on @user_script:3.", LogUnavailable),
        ("READONLY You can't write against a read only replica. script: 5ab3, on @user_script:3.", LogUnavailable),
        ("MISCONF Errors writing to the AOF file: No space. script: 5ab3, on @user_script:3.", LogUnavailable),
        ("ERR invalid expire time in 'set' command script: 5ab3, on @user_script:3.", OutcomeUnknown),
        ("ERR The user executing the script can't run this command or subcommand script: 5ab3, on @user_script:3.",
         OutcomeUnknown),
        ("NOPERM No permissions to access a key script: 5ab3, on @user_script:3.", OutcomeUnknown),
        # what takes minutes, or a cluster, to be brought about
        ("ERR Error running script (call to f_5ab3): @user_script:1: @user_script: 1: -MISCONF Redis is configured to "
         "save RDB snapshots, but it is currently not able to persist on disk.", LogUnavailable),
        ("MISCONF Valkey is configured to save RDB snapshots, but it's currently unable to persist.", LogUnavailable),
        ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", LogUnavailable),
        ("LOADING Redis is loading the dataset in memory", LogUnavailable),
        ("NOAUTH Authentication required.", LogUnavailable),
        ("NOPERM User u has no permissions to run the 'evalsha' command", LogUnavailable),
        ("CLUSTERDOWN Hash slot not served", LogUnavailable),
        ("ERR upstream connection closed", OutcomeUnknown),  # of a proxy: nobody knows when
    ],
)  # fmt: skip
async def test_an_error_of_redis_tells_whether_anything_can_have_been_done(
    redis_url: str, answer: str, expected: type[SpillwayError]
) -> None:
    client = connect(redis_url, 60.0)

    async def ask() -> None:
        async with telling(client):
            await client.ping()
            raise BaseParser.parse_error(answer)

    with pytest.raises(expected):
        await ask()
    await client.aclose()

"""Round trips to Redis whose connection says nothing, or is reset: at whatever point that meets them."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
import uvloop

from actors.adapters.redis_link import Client, connect, reading, telling
from actors.core.errors import LogUnavailable
from cluster.embedded import redis_server
from tests.acceptance.proxy import FaultProxy


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

"""What the log acknowledged survives a power cut, at any moment, and only because Redis syncs at every write."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.adapters.redis_dead_letters import RedisDeadLetters
from actors.adapters.redis_link import connect
from actors.adapters.redis_log import RedisLog
from cluster.embedded import ports, redis_server
from cluster.embedded.child import Child
from tests.acceptance.power import CUTS, losses, traced

APPENDING_S = 3.0
STREAMS = 4


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Child]:
    folder = tmp_path / "redis"
    folder.mkdir()
    port = ports.free_port(0)
    child = Child(redis_server.recipe(redis_server.find(folder), port, folder, tmp_path / "redis.log", 1 << 28))
    child.start()
    child.await_ready()
    yield child
    child.stop()


async def append(url: str, stream: str, acknowledged: dict[str, float], unsafe: bool) -> None:
    client = connect(url, 5.0)
    log = RedisLog(client, "t", stream, RedisDeadLetters(client, "t"), once_ttl_s=60, allow_unsafe=unsafe)
    await log.open()
    end, number = time.monotonic() + APPENDING_S, 0
    while time.monotonic() < end:
        number += 1
        text = f"<{stream} {number}>"
        await log.append(text.encode())
        acknowledged[text] = time.time()
    await client.aclose()


@pytest.mark.parametrize("fsync", ["always", "everysec"])
async def test_a_power_cut(redis: Child, tmp_path: Path, fsync: str) -> None:
    """`everysec` is refused at start without `allow_unsafe_redis`; here it shows that the check finds a loss."""
    folder, acknowledged = tmp_path / "redis", dict[str, float]()
    command = redis.recipe.command
    url = redis_server.address(int(command[command.index("--port") + 1]))
    client = connect(url, 5.0)
    await client.set("the file", "exists")
    await client.config_set("appendfsync", fsync)
    await client.aclose()
    assert redis.pid is not None
    with traced(redis.pid, tmp_path / "trace", folder) as trace:
        await asyncio.gather(
            *(append(url, f"{index}of{STREAMS}", acknowledged, fsync != "always") for index in range(STREAMS))
        )
    found = losses(acknowledged, trace, folder, tmp_path / "cuts", seed=1)
    assert len(acknowledged) > 20
    if fsync == "always":
        assert found == [0] * CUTS
    else:
        assert max(found) > 0

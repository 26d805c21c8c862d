"""Round trips to Redis that are cancelled: the task ends, at whatever point it was met."""

from __future__ import annotations

import asyncio

import pytest

from actors.adapters.redis_link import connect, reading

_STEPS = 40  # turns of the loop that connecting and asking take, with a margin


@pytest.mark.parametrize("turns", range(_STEPS))
async def test_a_cancelled_round_trip_ends_its_task(redis_url: str, turns: int) -> None:
    client = connect(redis_url, timeout_s=5.0)

    async def ask_always() -> None:
        while True:
            async with reading(client):
                await client.ping()
            await asyncio.sleep(3_600)

    task = asyncio.create_task(ask_always())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)
    task.cancel()  # a second one always works
    await client.aclose()
    assert done == {task}
    assert task.cancelled()

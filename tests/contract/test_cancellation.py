"""Questions to a server that are cancelled, at whatever point that meets them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from actors.adapters.mongo_store import MongoStore
from actors.adapters.redis_link import connect, reading


async def ends(ask: Callable[[], Awaitable[None]], turns: int) -> bool:
    """Does a task that asks, and then does something else for ever, end when it is cancelled after so many turns?"""

    async def ask_and_stay() -> None:
        await ask()
        await asyncio.sleep(3_600)

    task = asyncio.create_task(ask_and_stay())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)
    task.cancel()  # a second one always works
    return done == {task} and task.cancelled()


@pytest.mark.parametrize("turns", range(40))
async def test_a_cancelled_question_to_redis_ends_its_task(redis_url: str, turns: int) -> None:
    client = connect(redis_url, timeout_s=5.0)

    async def ask() -> None:
        async with reading(client):
            await client.ping()

    assert await ends(ask, turns)
    await client.aclose()


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("turns", range(60))
async def test_a_cancelled_question_to_mongodb_ends_its_task(mongodb_uri: str, turns: int, warm: bool) -> None:
    store = MongoStore(mongodb_uri, timeout_s=5.0, lanes=2)
    if warm:
        await store.probe()

    async def ask() -> None:
        await store.probe()
        await store.describe()

    assert await ends(ask, turns)
    await store.close()

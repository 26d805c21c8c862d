"""Commands to MongoDB that are cancelled, at whatever point that meets them."""

from __future__ import annotations

import asyncio

import pytest

from actors.adapters.mongo_store import MongoStore

_STEPS = 60  # turns of the loop that connecting and asking take, with a margin


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("turns", range(_STEPS))
async def test_a_cancelled_command_ends_its_task(mongodb_uri: str, turns: int, warm: bool) -> None:
    store = MongoStore(mongodb_uri, timeout_s=5.0, lanes=2)
    if warm:
        await store.probe()

    async def ask_always() -> None:
        while True:
            await store.probe()
            await store.describe()
            await asyncio.sleep(3_600)

    task = asyncio.create_task(ask_always())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)
    task.cancel()  # a second one always works
    await store.close()
    assert done == {task}
    assert task.cancelled()

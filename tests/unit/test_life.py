"""How the process of an actor ends: wholly, also when a part of it does not want to."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from actors.life import together


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _fail() -> None:
    raise ValueError("a fault")


async def test_a_fault_ends_them_all_although_one_does_not_heed_its_cancellation() -> None:
    released = asyncio.Event()

    async def deaf() -> None:
        while not released.is_set():
            with suppress(asyncio.CancelledError):
                await released.wait()

    all_of_them = asyncio.create_task(together(deaf(), _fail()))
    done, _ = await asyncio.wait([all_of_them], timeout=5)
    released.set()
    assert done
    with pytest.raises(ValueError, match="a fault"):
        all_of_them.result()


async def test_a_fault_cancels_the_others() -> None:
    other = asyncio.create_task(_for_ever())

    async def watching() -> None:
        await other

    with pytest.raises(ValueError, match="a fault"):
        await together(watching(), _fail())
    await asyncio.wait([other], timeout=5)
    assert other.cancelled()


async def test_whoever_cancels_them_finds_them_at_rest() -> None:
    rested = False

    async def slow_to_stop() -> None:
        nonlocal rested
        try:
            await _for_ever()
        finally:
            for _ in range(10):
                await asyncio.sleep(0)
            rested = True

    all_of_them = asyncio.create_task(together(slow_to_stop(), _for_ever()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    all_of_them.cancel()
    await asyncio.wait([all_of_them], timeout=5)
    assert all_of_them.cancelled()
    assert rested

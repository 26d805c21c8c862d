"""What the status says of the end of a drain is what happens, within a fifth; and the lag is the age of the oldest."""

from __future__ import annotations

import asyncio

import pytest
from composed import Service, insert, until

from actors.adapters.clock import ManualClock
from actors.adapters.memory import MemoryLog
from actors.appends import Bounds
from actors.core.batching import BatchPolicy
from actors.core.errors import CommandNotSent
from actors.core.status import summarize

WRITES, BATCH = 12_000, 20  # a flush carries a whole entry, so an entry is a flush
ROOM = Bounds(max_writes=100_000, max_bytes=1 << 30, group_writes=500, group_bytes=1 << 20, patience_s=4.0)


async def behind(outage_s: float) -> Service:
    """A service whose MongoDB was away for `outage_s`, with a backlog; the drain begins now."""
    service = await Service(policy=BatchPolicy(max_writes=BATCH, max_bytes=1 << 20, linger_s=0.05), bounds=ROOM).start()
    service.store.faults.plan("probe", *[CommandNotSent("down")] * int(3 * outage_s))
    service.store.faults.plan("store", CommandNotSent("down"))
    for start in range(0, WRITES, BATCH):
        await service.keep(*(insert(f"{i}") for i in range(start, start + BATCH)))
    await service.clock.advance(outage_s)
    return service


def eta_s(service: Service) -> float | None:
    told: float | None = summarize([service.buffer.stats()], service.writer.stats())["drain_eta_s"]
    return told


def now_s(service: Service) -> float:
    return service.clock.now_ns() / 1e9


async def test_the_end_of_a_drain_is_told_within_a_fifth() -> None:
    service = await behind(20.0)
    service.store.faults.clear()
    await until(lambda: service.buffer.stats()["drained_total"], service.clock, step_s=0.1)
    told: list[tuple[float, float]] = []
    began = now_s(service)
    while service.buffer.stats()["writes"]:
        await service.clock.advance(0.1)
        eta = eta_s(service)
        if eta and now_s(service) - began >= 1.5:
            told.append((now_s(service), eta))
        assert now_s(service) - began < 120, "it does not drain"
    end = now_s(service)
    judged = [(at, eta, end - at) for at, eta in told if end - at >= 1.0]  # the last second is a matter of moments
    assert len(judged) >= 5
    assert all(0.8 * left <= eta <= 1.2 * left for _, eta, left in judged), judged
    await service.stop()


async def test_nothing_is_told_while_nothing_drains() -> None:
    service = await behind(20.0)
    assert eta_s(service) is None
    await service.stop()


async def test_a_clock_that_is_set_back_hides_no_lag() -> None:
    """Redis goes on from its last millisecond, so what it keeps from now on seems to come from the future."""
    service = await behind(20.0)
    service.store.faults.clear()
    await service.clock.advance(60.0)
    service.store.faults.plan("probe", *[CommandNotSent("down")] * 1_000)
    service.store.faults.plan("store", CommandNotSent("down"))
    service.clock.step_wall(-600.0)
    await service.keep(insert("a"))
    await service.clock.advance(300.0)
    assert service.buffer.stats()["lag_s"] == pytest.approx(300.0, abs=1.0)
    await service.stop()


@pytest.mark.parametrize("is_found", [False, True])
async def test_the_lag_follows_no_step_of_the_wall_clock(is_found: bool) -> None:
    service = await behind(20.0)
    if is_found:  # by a buffer that starts
        await service.restart_buffer()
    for step_s in (-3_600.0, 7_200.0):
        service.clock.step_wall(step_s)
        assert service.buffer.stats()["lag_s"] == pytest.approx(20.0, abs=0.1)
    await service.stop()


async def test_a_clock_of_redis_that_is_behind_ours_makes_no_lag() -> None:
    redis, service = ManualClock(), Service()
    redis.step_wall(-3_600.0)
    service.log = MemoryLog(clock=redis)
    service.new_buffer()
    await service.start()
    service.store.hold = asyncio.Event()
    await service.keep(insert("a"))
    assert service.buffer.stats()["lag_s"] == 0.0
    await service.clock.advance(2.0)
    assert service.buffer.stats()["lag_s"] == pytest.approx(2.0)
    await service.stop()


async def test_the_lag_is_the_age_of_the_oldest_write_and_grows_with_an_outage() -> None:
    service = await behind(20.0)
    assert service.buffer.stats()["lag_s"] == pytest.approx(20.0, abs=0.1)
    await service.clock.advance(1.0)
    assert service.buffer.stats()["lag_s"] == pytest.approx(21.0, abs=0.1)
    service.store.faults.clear()
    await service.clock.advance(60.0)
    assert service.buffer.stats()["lag_s"] == 0.0
    await service.stop()

"""At the bounds: what a full buffer says, how it opens again, and that it never says "again later" for ever."""

from __future__ import annotations

import pytest
from composed import Service, insert, only_call
from hypothesis import given
from hypothesis import strategies as st

from actors.appends import Bounds
from actors.core.batching import BatchPolicy
from actors.core.document import Write, encode_writes
from actors.core.errors import QueueFull
from actors.core.pacing import SECOND_NS
from actors.core.rates import RateMeter, pause_s, retry_after_s

BOUNDS = Bounds(max_writes=100, max_bytes=100_000, group_writes=500, group_bytes=50_000, patience_s=4.0)


async def started() -> Service:
    """Nothing leaves before it has lingered, so nothing leaves while no time passes."""
    return await Service(bounds=BOUNDS, policy=BatchPolicy(max_writes=1_000, max_bytes=1 << 20, linger_s=0.05)).start()


def inserts(prefix: str, count: int) -> list[Write]:
    return [insert(f"{prefix}{i}") for i in range(count)]


async def test_one_that_alone_is_larger_than_the_bound_is_taken_by_an_empty_buffer() -> None:
    service = await started()
    await service.keep(*inserts("a", 150))
    with pytest.raises(QueueFull):
        await service.keep(insert("b"))
    await service.clock.advance(5)
    assert len(service.stored) == 150
    await service.keep(*inserts("c", 150))
    await service.stop()


@given(
    excess=st.floats(allow_nan=False, min_value=-1e18, max_value=1e18),
    drained_per_s=st.floats(allow_nan=False, min_value=0, max_value=1e12),
)
def test_retry_after_is_never_below_a_second_nor_above_a_minute(excess: float, drained_per_s: float) -> None:
    assert 1.0 <= retry_after_s(excess, drained_per_s) <= 60.0


@given(
    fill=st.floats(min_value=0, max_value=1.2),
    drained=st.lists(st.tuples(st.integers(0, 2 * SECOND_NS), st.integers(1, 10_000)), max_size=20),
)
def test_callers_pause_the_longer_the_fuller_and_never_while_a_pause_is_no_use(
    fill: float, drained: list[tuple[int, int]]
) -> None:
    meter, now = RateMeter(), 0
    for after, writes in drained:
        now += after
        meter.note(now, writes)
    pause = pause_s(fill, meter, now)
    assert (pause > 0) == (fill > 0.5 and meter.per_s(now) > 0)
    assert pause <= pause_s(fill + 0.1, meter, now)


def test_at_seventy_percent_one_caller_may_append_what_is_drained() -> None:
    meter = RateMeter()
    for tenth in range(50):
        meter.note(tenth * SECOND_NS // 10, 100)
    now = 49 * SECOND_NS // 10
    assert 1 / pause_s(0.7, meter, now) == pytest.approx(meter.per_s(now))
    assert 1 / pause_s(0.5 + 0.2 * 2**0.5, meter, now) == pytest.approx(meter.per_s(now) / 2)


async def test_a_buffer_that_fills_asks_for_pauses_once_something_is_drained() -> None:
    """Else a flood that MongoDB cannot quite follow runs into the bound, and a part of it is refused for good."""
    service = await started()
    calm = await service.buffer.append(only_call(40), encode_writes(inserts("a", 40)), 40)
    silent = await service.buffer.append(only_call(40), encode_writes(inserts("b", 40)), 40)
    assert (calm.pause_s, silent.pause_s) == (0.0, 0.0), "nothing is drained yet, so it would only put off the refusal"
    await service.clock.advance(2)
    again = await service.buffer.append(only_call(49), encode_writes(inserts("c", 49)), 49)
    full = await service.buffer.append(only_call(40), encode_writes(inserts("d", 40)), 40)
    assert again.pause_s == 0.0
    assert full.pause_s > 0.0
    await service.stop()

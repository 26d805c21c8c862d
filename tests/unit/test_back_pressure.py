"""At the bounds: what a full buffer says, how it opens again, and that it never says "again later" for ever."""

from __future__ import annotations

import pytest
from composed import Service, insert
from hypothesis import given
from hypothesis import strategies as st

from actors.core.batching import BatchPolicy
from actors.core.document import Write
from actors.core.errors import QueueFull
from actors.core.rates import retry_after_s
from actors.inflow import Bounds

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
    most_s=st.floats(min_value=1, max_value=3_600),
)
def test_retry_after_is_never_below_a_second_nor_above_its_bound(
    excess: float, drained_per_s: float, most_s: float
) -> None:
    assert 1.0 <= retry_after_s(excess, drained_per_s, most_s) <= most_s

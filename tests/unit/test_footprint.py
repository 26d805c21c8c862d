"""What Redis may need is known before it is needed."""

from __future__ import annotations

import pytest

from actors.adapters.redis_cache import MAX_DOCUMENT_BYTES
from cluster.footprint import SHARE, least_maxmemory_bytes, needed_bytes, shortage
from cluster.settings import MIB, load


def test_the_defaults_fit_into_the_redis_we_start() -> None:
    assert least_maxmemory_bytes(load()) <= 1024 * MIB


@pytest.mark.parametrize(
    "more",
    [{"max_queue_bytes": 512 * MIB}, {"max_queue_size": 400_000}, {"idempotency_max_keys": 10**6}, {"buffers": 4}],
)
def test_every_bound_counts(more: dict[str, int]) -> None:
    assert needed_bytes(load(**more)) > needed_bytes(load())


def test_a_cached_document_counts_with_all_it_may_have() -> None:
    few, many = (needed_bytes(load(cache_max_entries=entries, buffers=2)) for entries in (20_000, 30_000))
    assert many - few >= 10_000 * 2 * MAX_DOCUMENT_BYTES


def test_a_cache_that_is_off_needs_nothing() -> None:
    assert needed_bytes(load(cache_ttl_s=0)) < needed_bytes(load())


def test_a_redis_too_small_is_told_with_the_command_that_mends_it() -> None:
    settings = load()
    least = least_maxmemory_bytes(settings)
    assert shortage(settings, least) == shortage(settings, 0) == ""
    told = shortage(settings, least - 1)
    assert f"CONFIG SET maxmemory {least}" in told
    assert "max_queue_bytes" in told
    assert needed_bytes(settings) <= SHARE * least + 1

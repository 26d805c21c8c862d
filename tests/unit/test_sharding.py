"""Which buffer owns a key."""

import pytest

from actors.core.document import Key
from actors.core.sharding import heir_of, pool_of, shard_of, stream_of


@pytest.mark.parametrize("shards", [2, 3, 4, 7, 16])
def test_similar_keys_are_spread_evenly(shards: int) -> None:
    counts = [0] * shards
    for i in range(2_000 * shards):
        counts[shard_of(Key("d.c", f"user-{i}"), shards)] += 1
    assert all(0.9 < count / 2_000 < 1.1 for count in counts)


def test_an_owner_never_changes_between_processes_and_versions() -> None:
    assert [shard_of(Key("d.c", f"id{i}"), 4) for i in range(8)] == [3, 1, 2, 1, 3, 2, 3, 1]


def test_one_buffer_owns_everything() -> None:
    assert {shard_of(Key("d.c", str(i)), 1) for i in range(100)} == {0}


def test_namespace_and_id_do_not_run_into_each_other() -> None:
    assert {shard_of(Key("d.c", f"{i}x"), 64) == shard_of(Key(f"d.c{i}", "x"), 64) for i in range(50)} != {True}


def test_every_old_stream_has_one_heir_in_a_smaller_pool() -> None:
    assert [heir_of(stream_of(index, 5), 2) for index in range(5)] == [0, 1, 0, 1, 0]


def test_a_stream_of_the_pool_itself_is_its_buffers_own() -> None:
    assert [heir_of(stream_of(index, 3), 3) for index in range(3)] == [0, 1, 2]
    assert pool_of(stream_of(1, 12)) == 12


NO_STREAMS = ["", "of", "1of", "of2", "1of2of3", "-1of2", "+1of2", "1_0of2", " 1of2", "²of2", "٣of2", "1of2\n"]


@pytest.mark.parametrize("name", NO_STREAMS)
def test_what_is_no_streams_name_has_no_heir_and_no_pool(name: str) -> None:
    """Receipts come from callers."""
    for asked in (lambda: heir_of(name, 2), lambda: pool_of(name)):
        with pytest.raises(ValueError, match="no stream's name"):
            asked()

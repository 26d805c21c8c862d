"""One body for every lease and every cache."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from actors.adapters.clock import ManualClock
from actors.adapters.memory import MemoryCache, MemoryLease
from actors.adapters.redis_cache import RedisCache
from actors.adapters.redis_lease import LONGEST_LEASE_S, RedisLease
from actors.adapters.redis_link import connect
from actors.core.errors import LogUnavailable
from actors.core.ports import Cache, Lease
from cluster.settings import Settings
from tests.conftest import KEEPERS

TTL_S = 60.0  # far longer than a test takes: only `pass_time` makes a lease run out
OPERATION_S, LONG_OPERATION_S = 2.0, 30.0
MAX_ENTRIES = 3


@dataclass
class Leases:
    another: Callable[..., Lease]  # of this operation time, or of `OPERATION_S`
    pass_time: Callable[[float], Awaitable[None]]


@pytest.fixture(**KEEPERS)
async def leases(request: pytest.FixtureRequest) -> AsyncIterator[Leases]:
    if request.param == "memory":
        clock = ManualClock()
        yield Leases(MemoryLease(clock, ttl_s=TTL_S, operation_s=OPERATION_S).another, clock.advance)
        return
    client = connect(request.getfixturevalue(request.param), 60.0)
    prefix = f"t{uuid.uuid4().hex}"
    key = f"{prefix}:writer"

    async def pass_time(seconds: float) -> None:
        """Brings the end of the key nearer; at zero Redis deletes it."""
        await client.pexpire(key, await client.pttl(key) - int(seconds * 1000))

    yield Leases(lambda operation_s=OPERATION_S: RedisLease(client, prefix, TTL_S, operation_s), pass_time)
    await client.aclose()


async def test_the_first_writer_follows_nobody(leases: Leases) -> None:
    lease = leases.another()
    grant = await lease.acquire()
    assert grant == (1, 0)
    assert lease.ttl_s == TTL_S
    assert await lease.renew()


async def test_a_second_writer_waits_until_the_lease_has_run_out_and_then_knows_that_it_did(leases: Leases) -> None:
    first, second = leases.another(), leases.another()
    await first.acquire()
    assert await second.acquire() is None
    await leases.pass_time(TTL_S * 0.6)
    assert await first.renew()
    await leases.pass_time(TTL_S * 0.6)
    assert await second.acquire() is None, "it was renewed"
    await leases.pass_time(TTL_S * 0.7)
    assert await second.acquire() == (2, OPERATION_S)


async def test_who_was_followed_cannot_renew_or_release_any_more(leases: Leases) -> None:
    first, second = leases.another(), leases.another()
    await first.acquire()
    await leases.pass_time(TTL_S * 1.2)
    await second.acquire()
    assert not await first.renew()
    await first.release()
    assert await leases.another().acquire() is None
    assert await second.renew()


async def test_a_lease_that_was_given_back_is_free_at_once_and_clean(leases: Leases) -> None:
    first, second, third = (leases.another() for _ in range(3))
    await first.acquire()
    await first.release()
    assert await second.acquire() == (2, 0)
    await leases.pass_time(TTL_S * 1.2)
    assert await third.acquire() == (3, OPERATION_S), "the word of the first does not speak for the second"


async def test_a_lease_that_ran_out_is_taken_again_while_nobody_else_held_it(leases: Leases) -> None:
    lease = leases.another()
    await lease.acquire()
    await leases.pass_time(TTL_S * 1.2)
    assert await lease.renew()
    assert await leases.another().acquire() is None


async def test_who_was_followed_does_not_take_it_again_when_its_follower_has_died(leases: Leases) -> None:
    """Commands of the follower may still be under way, and whoever comes next has to wait for their end."""
    first, second = leases.another(), leases.another()
    await first.acquire()
    await leases.pass_time(TTL_S * 1.2)
    await second.acquire()
    await leases.pass_time(TTL_S * 1.2)
    assert not await first.renew()
    assert await leases.another().acquire() == (3, OPERATION_S)


async def test_an_heir_is_told_how_long_its_predecessor_s_commands_may_take_and_not_its_own_only(
    leases: Leases,
) -> None:
    first, second = leases.another(LONG_OPERATION_S), leases.another()
    await first.acquire()
    await leases.pass_time(TTL_S * 1.2)
    assert await second.acquire() == (2, LONG_OPERATION_S)


async def test_an_heir_that_dies_before_it_has_outwaited_its_predecessor_hands_the_longer_time_on(
    leases: Leases,
) -> None:
    """So does one that was never told that it has the lease, and takes it again."""
    first, second, third = leases.another(LONG_OPERATION_S), leases.another(), leases.another()
    await first.acquire()
    for heir, epoch in ((second, 2), (second, 3), (third, 4)):
        await leases.pass_time(TTL_S * 1.2)
        assert await heir.acquire() == (epoch, LONG_OPERATION_S)
        assert await heir.acquire() is None, "asked a second time"
        assert await heir.renew(), "within its quarantine"


async def test_an_heir_that_has_outwaited_its_predecessor_hands_on_its_own_time(leases: Leases) -> None:
    first, second, third = leases.another(LONG_OPERATION_S), leases.another(), leases.another()
    await first.acquire()
    await leases.pass_time(TTL_S * 1.2)
    await second.acquire()
    assert await second.renew(alone=True)
    assert not await first.renew(alone=True), "a late word of the one before changes nothing"
    await leases.pass_time(TTL_S * 1.2)
    assert await third.acquire() == (3, OPERATION_S)


async def test_a_lease_that_was_given_back_hands_nothing_on(leases: Leases) -> None:
    first, second, third = leases.another(LONG_OPERATION_S), leases.another(), leases.another()
    await first.acquire()
    await first.release()
    assert await second.acquire() == (2, 0)
    await leases.pass_time(TTL_S * 1.2)
    assert await third.acquire() == (3, OPERATION_S)


async def test_a_dead_writer_s_lease_ends_though_the_clock_of_redis_was_set_back(redis_url: str) -> None:
    """By an hour: so much longer its key would live."""
    client, prefix = connect(redis_url, 60.0), f"t{uuid.uuid4().hex}"
    dead, next_ = (RedisLease(client, prefix, TTL_S / 2, OPERATION_S) for _ in range(2))
    await dead.acquire()
    await client.expire(f"{prefix}:writer", 3_600)
    assert await next_.acquire() is None
    assert LONGEST_LEASE_S - 30 < await client.ttl(f"{prefix}:writer") <= LONGEST_LEASE_S
    assert await dead.renew(), "it may be alive after all, and goes on with its own time"
    assert await next_.acquire() is None
    assert await client.ttl(f"{prefix}:writer") <= TTL_S / 2
    await client.aclose()


async def test_a_lease_without_an_end_is_given_one(redis_url: str) -> None:
    """One that was restored or copied without it. No writer would ever follow."""
    client, prefix = connect(redis_url, 60.0), f"t{uuid.uuid4().hex}"
    dead, next_ = (RedisLease(client, prefix, TTL_S / 2, OPERATION_S) for _ in range(2))
    await dead.acquire()
    await client.persist(f"{prefix}:writer")
    assert await next_.acquire() is None
    assert LONGEST_LEASE_S - 30 < await client.ttl(f"{prefix}:writer") <= LONGEST_LEASE_S
    await client.aclose()


def test_no_lease_may_be_set_longer_than_the_longest() -> None:
    assert Settings(writer_lease_s=LONGEST_LEASE_S).writer_lease_s == LONGEST_LEASE_S
    with pytest.raises(ValueError, match="less than or equal to 60"):
        Settings(writer_lease_s=LONGEST_LEASE_S + 0.1)


async def test_a_lease_that_cannot_be_reached_says_so() -> None:
    lease = RedisLease(connect("redis://127.0.0.1:1/0", 0.3), "t", TTL_S, OPERATION_S)
    for ask in (lease.acquire, lease.renew, lease.release):
        with pytest.raises(LogUnavailable):
            await ask()


@pytest.fixture(**KEEPERS)
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    if request.param == "memory":
        yield MemoryCache(MAX_ENTRIES)
        return
    client = connect(request.getfixturevalue(request.param), 60.0)
    yield RedisCache(client, f"t{uuid.uuid4().hex}", "0of1", 60, MAX_ENTRIES)
    await client.aclose()


async def test_what_was_put_is_there_until_it_is_dropped(cache: Cache) -> None:
    await cache.put({"a": b"1", "b": b"\x00\xff"})
    assert await cache.get(["b", "x", "a"]) == [b"\x00\xff", None, b"1"]
    await cache.put({"a": b"2"})
    await cache.drop(["b", "never there"])
    assert await cache.get(["a", "b"]) == [b"2", None]


async def test_the_document_that_was_put_first_makes_room_for_another(cache: Cache) -> None:
    for key in "abcad":
        await cache.put({key: b"1"})
    assert await cache.get(list("bcad")) == [None, b"1", b"1", b"1"]
    await cache.drop(["c"])
    await cache.put({"e": b"2"})
    assert await cache.get(list("aed")) == [b"1", b"2", b"1"], "there was room"
    await cache.put({"f": b"3"})
    assert await cache.get(list("adef")) == [None, b"1", b"2", b"3"]
    await cache.put({f"k{i}": b"3" for i in range(2 * MAX_ENTRIES)})
    found = await cache.get([*"aed", *(f"k{i}" for i in range(2 * MAX_ENTRIES))])
    assert sum(document is not None for document in found) == MAX_ENTRIES


async def test_nothing_is_put_got_or_dropped_without_harm(cache: Cache) -> None:
    await cache.put({})
    await cache.drop([])


async def test_a_cache_without_time_to_live_is_off(redis_url: str) -> None:
    client = connect(redis_url, 60.0)
    off = RedisCache(client, "t", "0of1", 0)
    await off.put({"a": b"1"})
    assert await off.get(["a"]) == [None]
    await off.drop(["a"])
    await client.aclose()


async def test_a_cached_document_has_an_end_and_a_large_one_is_not_cached(redis_url: str) -> None:
    client = connect(redis_url, 60.0)
    prefix = f"t{uuid.uuid4().hex}"
    cache = RedisCache(client, prefix, "0of1", 60)
    await cache.put({"a": b"x" * 8_192, "large": b"x" * 8_193})
    (key,) = [key async for key in client.scan_iter(f"{prefix}:*")]
    assert 50 < await client.ttl(key) <= 60
    await client.aclose()


async def test_another_owner_starts_with_an_empty_cache(redis_url: str) -> None:
    client = connect(redis_url, 60.0)
    prefix = f"t{uuid.uuid4().hex}"
    await RedisCache(client, prefix, "0of1", 60).put({"a": b"1"})
    assert await RedisCache(client, prefix, "0of1", 60).get(["a"]) == [None]
    await client.aclose()


async def test_a_failing_cache_is_a_miss_and_only_a_drop_of_what_is_there_insists(redis_url: str) -> None:
    client = connect(redis_url, 60.0)
    cache = RedisCache(client, f"t{uuid.uuid4().hex}", "0of1", 60, 1)
    await cache.put({"a": b"1"})
    cache._client = connect("redis://127.0.0.1:1/0", 0.3)  # a port where nobody listens
    assert await cache.get(["a"]) == [None]
    await cache.drop(["never there"])
    with pytest.raises(LogUnavailable):
        await cache.drop(["a"])
    await cache.put({"b": b"1"})  # for which "a" would have to make room
    assert await cache.get(["a", "b"]) == [None, None]
    await client.aclose()


async def test_what_arrives_late_is_not_found_though_its_document_was_put_again(redis_url: str) -> None:
    client, prefix = connect(redis_url, 60.0), f"t{uuid.uuid4().hex}"
    cache = RedisCache(client, prefix, "0of1", 60, 1)
    await cache.put({"a": b"old"})
    (key,) = [key async for key in client.scan_iter(f"{prefix}:*")]
    late = await client.get(key)
    await cache.drop(["a"])
    await cache.put({"a": b"new"})
    await client.set(key, late)
    assert await cache.get(["a"]) == [None]
    await client.aclose()

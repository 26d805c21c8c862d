"""A replica of Serve, without Serve: what it asks for before it begins, and when it says that it should be replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis

from actors.core.errors import LogUnavailable, UnsafeLog
from cluster import launch
from cluster.settings import Settings, load
from serve_app import app

Replica = Callable[[Settings], Awaitable[Any]]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """For which settings actors were made, and those of others ended."""
    some: list[Settings] = []
    monkeypatch.setattr(launch, "ensure_actors", some.append)
    return some


@pytest.fixture
def replica(monkeypatch: pytest.MonkeyPatch, made: list[Settings]) -> Replica:
    """One with these settings, on no actors."""

    async def ready(*_: Any) -> None: ...

    monkeypatch.setattr(launch, "refuse_unsafe_log", ready)
    monkeypatch.setattr(app, "calm_collector", lambda: None)
    monkeypatch.setattr(app.protocol, "install", lambda: None)
    monkeypatch.setattr(app.logs, "keep_records", lambda: None)
    edge: Any = app.Edge.func_or_class.__mro__[1]  # type: ignore[attr-defined]

    async def make(settings: Settings) -> Any:
        one = SimpleNamespace()
        await edge.__init__(one, settings)
        one.check_health = lambda: edge.check_health(one)
        return one

    return make


async def test_a_version_whose_redis_is_unsafe_ends_before_it_has_ended_the_actors_of_the_one_that_runs(
    redis_url: str, replica: Replica, made: list[Settings]
) -> None:
    settings = load(redis_url=redis_url, direct_port=0)
    client = Redis.from_url(redis_url)
    await client.config_set("appendfsync", "everysec")
    try:
        with pytest.raises(UnsafeLog, match="CONFIG SET appendfsync always"):
            await replica(settings)
        assert made == []
        unchecked = load(redis_url=redis_url, direct_port=0, allow_unsafe_redis=True)
        await replica(unchecked)
        assert made == [unchecked]
    finally:
        await client.config_set("appendfsync", "always")
        await client.aclose()


async def test_nor_does_a_version_that_cannot_read_the_log(
    redis_url: str, replica: Replica, made: list[Settings]
) -> None:
    settings = load(redis_url=redis_url, direct_port=0, key_prefix="newer", allow_unsafe_redis=True)
    client = Redis.from_url(redis_url)
    await client.set("newer:format", 1_000)
    try:
        with pytest.raises(LogUnavailable, match="Start the newer version again"):
            await replica(settings)
        assert made == []
    finally:
        await client.delete("newer:format")
        await client.aclose()


async def test_a_redis_that_is_away_keeps_no_replica_from_its_start(replica: Replica, made: list[Settings]) -> None:
    settings = load(redis_url="redis://127.0.0.1:1/0", direct_port=0)
    await replica(settings)
    assert made == [settings]


async def test_a_replica_whose_actors_were_ended_for_others_is_not_healthy(
    monkeypatch: pytest.MonkeyPatch, replica: Replica
) -> None:
    """Nor would it ever be again: nobody else makes them. Where there are none at all, a new one would not help."""
    settings = load(direct_port=0, allow_unsafe_redis=True)
    ours = [launch.writer_name(settings), *launch.buffer_names(settings)]
    newer = load(rate_limit_per_s=50)
    there = ours
    monkeypatch.setattr(launch, "existing", lambda: there)
    one = await replica(settings)

    async def asked_twice() -> None:
        """The second time with the answer of the first."""
        await one.check_health()
        async with asyncio.timeout(60):
            await asyncio.wait({one._roll_call._asked})
        await one.check_health()

    await asked_twice()
    there = []
    await asked_twice()
    there = [launch.writer_name(newer), *launch.buffer_names(newer)]
    with pytest.raises(RuntimeError, match=r"can keep no writes: there is no buffer-.* has ended them"):
        await asked_twice()

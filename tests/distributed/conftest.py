"""One local Ray for each file; one prefix and one collection per test."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from pymongo import AsyncMongoClient

from cluster.settings import Settings, load

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """A Ray of its own, small and without a dashboard."""
    os.environ["RAY_AUTH_MODE"] = "disabled"  # read at import; nothing outside this machine can reach it
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = str(ROOT)  # the actors' processes import our packages
    import ray

    ray.init(num_cpus=8, include_dashboard=False, object_store_memory=150 * 1024 * 1024, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def settings(redis_url: str, mongodb_uri: str, ray_cluster: None) -> Settings:
    """Short times, so that a killed writer is followed within seconds; the bounds and the cap are the real ones."""
    run = uuid.uuid4().hex[:8]
    return load(
        redis_url=redis_url,
        mongodb_uri=mongodb_uri,
        key_prefix=f"t{run}",
        data_namespace=f"spillwaytest.run{run}",
        writer_lease_s=1.0,
        mongodb_timeout_s=1.0,
    )


@pytest.fixture
async def clean_up(settings: Settings) -> AsyncIterator[None]:
    """Ends the test's actors whatever happened."""
    yield
    from cluster import launch

    launch.end_strangers(set())  # none is ours; one that goes by itself meanwhile is no error


@pytest.fixture
def stored(settings: Settings) -> Callable[[], Awaitable[list[str]]]:
    """Ids of all stored documents, read past the service; doubled ones appear twice."""

    async def read() -> list[str]:
        database, collection = settings.data_namespace.split(".", 1)
        async with AsyncMongoClient(settings.mongodb_uri) as client:
            return [document["_id"] async for document in client[database][collection].find({}, {"_id": 1})]

    return read


@pytest.fixture
def eventually() -> Callable[[Callable[[], Awaitable[bool]], float], Awaitable[None]]:
    """Wait until something is so; fail when the time is up."""

    async def wait(condition: Callable[[], Awaitable[bool]], timeout_s: float = 90.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not await condition():
                await asyncio.sleep(0.05)

    return wait

"""Replicas of two versions at once: each ends the other's actors, and Serve, which knows the version that is wanted,
ends the replicas that are left without."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from cluster import launch
from cluster.embedded.ports import free_port
from cluster.settings import Settings, load

pytestmark = pytest.mark.usefixtures("clean_up")

Eventually = Callable[[Callable[[], Awaitable[bool]], float], Awaitable[None]]


@pytest.fixture
async def two_replicas(settings: Settings) -> AsyncIterator[Settings]:
    """With the settings they have."""
    from ray import serve

    mine = load(**settings.model_dump() | {"direct_port": free_port(0)})
    serve.start(http_options={"host": "127.0.0.1", "port": free_port(0)})
    await deploy(mine)
    yield mine
    await asyncio.to_thread(serve.shutdown)


async def deploy(settings: Settings) -> None:
    """Until it runs; Serve replaces one replica after the other."""
    from ray import serve

    from serve_app.app import Edge

    edge: Any = Edge
    options = {"num_replicas": 2, "health_check_period_s": 1, "ray_actor_options": {"num_cpus": 0}}
    await asyncio.to_thread(serve.run, edge.options(**options).bind(settings), name="spillway")


async def test_actors_that_a_replica_of_the_version_before_has_ended_are_made_again(
    two_replicas: Settings, eventually: Eventually
) -> None:
    """It had waited for its machine, and is the last to start; then it goes."""
    launch.ensure_actors(load(**two_replicas.model_dump() | {"rate_limit_per_s": 50}))
    await eventually(lambda: serves(two_replicas), 120)


async def test_a_changed_setting_reaches_replicas_and_actors(two_replicas: Settings, eventually: Eventually) -> None:
    changed = load(**two_replicas.model_dump() | {"rate_limit_per_s": 50})
    await deploy(changed)
    await eventually(lambda: serves(changed), 120)


async def serves(settings: Settings) -> bool:
    """Two replicas of this version on their own actors, and no others: either keeps a write."""
    if launch.existing() != sorted([*launch.buffer_names(settings), launch.writer_name(settings)]):
        return False
    url = f"http://127.0.0.1:{settings.direct_port}/v1/spillwaytest/orders"
    for _ in range(10):  # each connection may reach another of the replicas
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.post(url, json={"sum": 1})
        except httpx.HTTPError:
            return False
        if answer.status_code != 202:
            return False
    return True

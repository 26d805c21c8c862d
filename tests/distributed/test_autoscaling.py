"""The direct port's load counts: replicas are added for requests that Serve's own door never saw."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from cluster.embedded.ports import free_port
from cluster.settings import Settings, load
from serve_app.autoscaling import both_doors

pytestmark = pytest.mark.usefixtures("clean_up")

WAITING = 8
POLICY = {
    "min_replicas": 1, "max_replicas": 2, "target_ongoing_requests": 4, "upscale_delay_s": 0, "look_back_period_s": 1,
    "metrics_interval_s": 0.5, "policy": {"policy_function": "serve_app.autoscaling:both_doors"},
}  # fmt: skip


@pytest.fixture
async def direct_url(settings: Settings) -> AsyncIterator[str]:
    """One replica whose MongoDB is not there, so that `Prefer: wait` keeps its requests under way."""
    from ray import serve

    from serve_app.app import Edge

    away = f"mongodb://127.0.0.1:{free_port(0)}"
    mine = load(**settings.model_dump() | {"mongodb_uri": away, "direct_port": free_port(0), "buffers": 1})
    serve.start(http_options={"host": "127.0.0.1", "port": free_port(0)})
    app = Edge.options(autoscaling_config=POLICY, ray_actor_options={"num_cpus": 0}).bind(mine)  # type: ignore[attr-defined]
    await asyncio.to_thread(serve.run, app, name="spillway")
    yield f"http://127.0.0.1:{mine.direct_port}"
    await asyncio.to_thread(serve.shutdown)


async def test_requests_on_the_direct_port_bring_a_second_replica(
    direct_url: str, eventually: Callable[[Callable[[], Awaitable[bool]], float], Awaitable[None]]
) -> None:
    async with httpx.AsyncClient(base_url=direct_url, timeout=60, trust_env=False) as client:
        await eventually(lambda: ready(client), 120)
        assert await replicas() == 1
        waiting = [asyncio.create_task(wait_again_and_again(client)) for _ in range(WAITING)]
        try:
            await eventually(two_replicas, 120)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


async def ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/readyz")).status_code == 200
    except httpx.HTTPError:
        return False


async def wait_again_and_again(client: httpx.AsyncClient) -> None:
    """A request under way at any time, however long the second replica takes; until cancelled."""
    while True:
        with contextlib.suppress(httpx.HTTPError):
            await client.post("/v1/shop/orders", json={"sum": 1}, headers={"Prefer": "wait=25"})
        await asyncio.sleep(0.1)  # for when it is refused at once


async def two_replicas() -> bool:
    return await replicas() == 2


async def replicas() -> int:
    from ray import serve

    status: Any = await asyncio.to_thread(serve.status)
    return int(status.applications["spillway"].deployments["Edge"].replica_states.get("RUNNING", 0))


def test_a_policy_without_replicas_leaves_the_number_to_serve() -> None:
    class Context:
        current_num_replicas = 0
        target_num_replicas = 1

    assert both_doors(Context()) == (1, {})

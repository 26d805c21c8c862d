"""Draining from outside of Ray: joins the running one, tells the actors to pour what they hold, leaves."""

from __future__ import annotations

import asyncio
import logging

import ray

from cluster import launch, topology
from cluster.settings import Settings


def drain(settings: Settings, timeout_s: float) -> int:
    """Returns how many writes are left in the log. RAY_ADDRESS and the token's place must be in the environment.

    Raises `ConnectionError` when Ray does not answer.
    """
    ray.init(namespace=topology.NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    try:
        return asyncio.run(launch.drain(settings, timeout_s))
    finally:
        ray.shutdown()

"""A pool of actors as a test finds it on a busy machine: ready when it is ready, and known when every part has told."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from actors.remote_intake import RemoteIntake
from cluster import launch
from cluster.settings import Settings

READY_S = 90.0
"""Seconds that Ray may take to start the actors' processes."""


async def ready(settings: Settings) -> RemoteIntake:
    """The pool, when all buffers have their logs; raises `UnsafeLog`, or `TimeoutError` when they never get them."""
    intake = launch.ensure_actors(settings)
    async with asyncio.timeout(READY_S):
        await launch.refuse_unsafe_log(intake, math.inf)
    return intake


async def whole_status(intake: RemoteIntake) -> dict[str, Any]:
    """The status when every part is in it, the writer with an epoch: who does not answer in a second is left out."""
    async with asyncio.timeout(READY_S):
        while True:
            status = await intake.status()
            if status["writer"].get("epoch") and all("writes" in buffer for buffer in status["buffers"]):
                return status
            await asyncio.sleep(0.1)

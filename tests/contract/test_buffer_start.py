"""A BufferActor that starts, on a real Redis: whoever calls it meanwhile waits for it."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, cast

from actors.calls import Remote
from actors.core.errors import SpillwayError
from actors.lane import Lane
from actors.remote import BufferActor
from cluster import launch
from cluster.settings import load


class Beside:
    """An actor in this very process, called like one in another."""

    name = "beside"

    def __init__(self, actor: BufferActor) -> None:
        self._actor = actor
        self.refusals = 0

    async def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        answer = await getattr(self._actor, method)(*arguments)
        if isinstance(answer, SpillwayError):
            self.refusals += 1
            raise answer
        return answer


async def test_a_call_that_finds_the_buffer_reading_its_log_waits_for_it(redis_url: str) -> None:
    """Refused, it would be a 504 for whoever had asked the buffer before it died, and a 503 for all others."""
    (config,) = launch.buffer_configs(load(redis_url=redis_url, key_prefix=f"t{uuid.uuid4().hex[:8]}"), "no-writer")
    actor = BufferActor(config)
    beside = Beside(actor)
    try:
        assert await Lane(cast(Remote, beside), timeout_s=30.0).append(b"", 0, lambda *place: place) == ("", 0)
        assert beside.refusals > 0
    finally:
        actor._life.cancel()
        await asyncio.wait([actor._life])

"""What /readyz said, and when: asked ten times a second for as long as a trial lasts."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import httpx

POLL_S = 0.1
TIMEOUT_S = 4.0  # the service itself gives up after 2


@dataclass(frozen=True)
class Sight:
    """One answer, or none: `at` is when it came (monotonic s)."""

    at: float
    ready: bool
    mongodb: str  # "up", "down", or "unknown" when nobody said so


class Readiness:
    """One request does not wait for the other: a probe that hangs must not hide what the next ones see."""

    def __init__(self, url: str) -> None:
        self.sights: list[Sight] = []
        self._url = url

    async def watch(self) -> None:
        """Until cancelled."""
        session = httpx.AsyncClient(base_url=self._url, timeout=TIMEOUT_S, trust_env=False)
        async with session, asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._look(session))
                await asyncio.sleep(POLL_S)

    async def _look(self, session: httpx.AsyncClient) -> None:
        try:
            answer = await session.get("/readyz")
            ready, mongodb = answer.status_code == 200, str(answer.json().get("mongodb", "unknown"))
        except (httpx.HTTPError, ValueError):
            ready, mongodb = False, "unknown"
        self.sights.append(Sight(time.monotonic(), ready, mongodb))

    def noticed_s(self, since: float, what: str) -> float | None:
        """Seconds from `since` until the first sight of `redis` or `mongodb` being away; None when it was not seen."""
        for sight in self.sights:
            if sight.at >= since and (not sight.ready if what == "redis" else sight.mongodb == "down"):
                return sight.at - since
        return None

    def ready_s(self, since: float) -> float | None:
        """Seconds from `since` until it was ready and stayed so; 0 when it always was, None when it is not."""
        after = [sight for sight in self.sights if sight.at >= since]
        if not after or not after[-1].ready:
            return None
        unready = [index for index, sight in enumerate(after) if not sight.ready]
        return after[unready[-1] + 1].at - since if unready else 0.0

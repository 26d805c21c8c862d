"""Is it alive, is it ready, and the numbers behind that."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request

from actors.core.intake import Intake
from serve_app.answers import Answer, json_answer
from serve_app.errors import Problem
from serve_app.parameters import one_of, query

logger = logging.getLogger(__name__)

MAX_AGE_S = 0.3
TIMEOUT_S = 2.0
_UNKNOWN: dict[str, Any] = {"ready": False, "mongodb": "unknown", "redis": "unknown"}


class StatusBoard:
    """The intake's status, at most `MAX_AGE_S` old. Any number of probes cost one question, asked by one at a time."""

    def __init__(self, intake: Intake, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._intake = intake
        self._monotonic = monotonic
        self._status: dict[str, Any] = _UNKNOWN
        self._expires_s = float("-inf")
        self._asking: asyncio.Task[dict[str, Any]] | None = None

    async def read(self) -> dict[str, Any]:
        """Never raises; an intake that does not answer within `TIMEOUT_S` is not ready."""
        if self._monotonic() < self._expires_s:
            return self._status
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask())
        return await asyncio.shield(self._asking)

    async def _ask(self) -> dict[str, Any]:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                self._status = await self._intake.status()
        except Exception as error:
            self._status = _UNKNOWN
            logger.warning("The intake tells no status: %r", error)
        finally:  # whatever happened, the next one asks again
            self._expires_s = self._monotonic() + MAX_AGE_S
            self._asking = None
        return self._status


class Health:
    def __init__(self, board: StatusBoard) -> None:
        self._board = board

    async def alive(self, request: Request) -> Answer:
        """This process answers; nothing else is asked, or a broken dependency would restart healthy processes."""
        query(request)
        return json_answer(200, {"status": "alive"})

    async def ready(self, request: Request) -> Answer:
        """200 while writes can be accepted; MongoDB may be down, the log absorbs."""
        verbose = "verbose" in query(request, verbose=one_of("", "1", "true"))
        status = await self._board.read()
        parts = {"mongodb": status.get("mongodb", "unknown"), "redis": status.get("redis", "unknown")}
        if not status.get("ready"):
            raise Problem("not-ready", "Writes are refused at the moment. Try again in a second.", **parts)
        return json_answer(200, {"status": "ready", **parts} | ({"details": status} if verbose else {}))

    async def status(self, request: Request) -> Answer:
        """GET /v1/status"""
        query(request)
        return json_answer(200, await self._board.read())

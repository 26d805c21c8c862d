"""GET /api/data: five reads and five writes. GET /api/stats: how many documents there are."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from starlette.requests import Request

from actors.core.document import Write
from serve_app.answers import Answer, json_answer, rfc3339
from serve_app.appends import Appends
from serve_app.errors import Problem
from serve_app.health import StatusBoard
from serve_app.ids import uuid7s
from serve_app.limits import EdgeLimits
from serve_app.parameters import query
from serve_app.pool import Pool
from serve_app.quota import Callers
from serve_app.reads import Reader
from serve_app.records import WRITES, records

logger = logging.getLogger(__name__)

READS = 5
_WARM_SHARE = 0.7  # of the near cache's time to live
_READ_TIMEOUT_S = 1.0  # the writes are what matters; a read that takes longer is left out


class Data:
    def __init__(
        self,
        appends: Appends,
        reader: Reader,
        pool: Pool,
        board: StatusBoard,
        callers: Callers,
        limits: EdgeLimits,
        monotonic: Callable[[], float],
    ) -> None:
        self._appends = appends
        self._reader = reader
        self._pool = pool
        self._board = board
        self._callers = callers
        self._namespace = limits.data_namespace
        self._near_ttl_s = limits.near_cache_ttl_s
        keeps_near = limits.near_cache_ttl_s > 0 and limits.near_cache_max_entries > 0
        self._warm_due_s = float("-inf" if keeps_near else "inf")  # what nobody keeps is read ahead for nothing
        self._warming: asyncio.Task[None] | None = None
        self._monotonic = monotonic

    async def read_and_write(self, request: Request) -> Answer:
        """Five inserts, durable when this answers, and the documents that could be read meanwhile: five unless the
        collection has fewer, or MongoDB is down and they are in no buffer and no cache."""
        query(request)
        charged = self._callers.charge(request, WRITES)
        self._pool.refresh_if_due(self._monotonic())
        await self._pool.asked_once(_READ_TIMEOUT_S)
        self._warm_if_due(self._monotonic())
        reads = self._pool.pick(READS)
        far = self._reader.far(self._namespace, reads)
        reading = asyncio.get_running_loop().create_task(self._unreadable(far)) if far else None
        try:
            receipts, _, quota = await self._callers.paid(charged, self._appends.keep(self._records))
            if reading is not None:
                unreadable = await reading
                reads = [id_ for id_ in reads if id_ not in unreadable]
        finally:
            if reading is not None:
                reading.cancel()  # does nothing when it is done
        ids = [receipt.id for receipt in receipts]
        answer = {"status": "success", "reads": reads, "writes": ids, "timestamp": rfc3339(time.time())}
        return json_answer(200, answer, quota)

    def _records(self) -> list[Write]:
        return records(self._namespace, uuid7s(WRITES), int(time.time() * 1000))

    async def stats(self, request: Request) -> Answer:
        """The stored count, known from the writer's own bookkeeping: no scan."""
        query(request)
        documents = (await self._board.read()).get("documents", {})
        total = documents.get(self._namespace)
        if total is None:
            raise Problem("count-unknown", "MongoDB has not been asked yet, does not answer, or does not let us count.")
        return json_answer(200, {"total_documents": total, "timestamp": rfc3339(time.time())})

    def _warm_if_due(self, now: float) -> None:
        """While requests come, read the pool again before its documents are too old for the near cache.

        A call that brings a hundred documents costs a buffer as much as one that brings five. Left to the requests, the
        documents would be fetched one by one, every second, in every replica.
        """
        if now < self._warm_due_s or not len(self._pool):
            return
        first, self._warm_due_s = self._warm_due_s < 0, now + _WARM_SHARE * self._near_ttl_s
        if not first and (self._warming is None or self._warming.done()):
            self._warming = asyncio.get_running_loop().create_task(self._warm())

    async def _warm(self) -> None:
        reads = await self._reader.fetch(self._namespace, self._pool.ids)
        if failed := [read for read in reads if isinstance(read, Exception)]:
            logger.info("%d of the pool could not be read ahead: %s", len(failed), failed[0])  # requests will try

    async def _unreadable(self, ids: list[str]) -> set[str]:
        """Reads `ids`; those that are not there or cannot be served now are told, and forgotten by the pool."""
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                reads = await self._reader.fetch(self._namespace, ids)
            missing = {
                id_
                for id_, read in zip(ids, reads, strict=True)
                if isinstance(read, Exception) or read.document is None
            }
        except TimeoutError:  # /v1/status tells it better than every request could
            missing = set(ids)
        except Exception:  # the writes are durable by now: a 500 would have its caller send five more
            logger.exception("Documents of the pool could not be read: %s", ids)
            missing = set(ids)
        if missing:
            self._pool.forget(missing)
        return missing

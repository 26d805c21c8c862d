"""FastAPI on two uvicorn workers, five documents pipelined into a Redis stream; `drain.py` stores them.

`uvicorn --workers 2 loadtests.baselines.queued:app`, with REDIS_URL. Redis appends to its file without waiting for the
disk (`appendfsync no`). Reads come from the newest stored documents, which the drain worker leaves in
Redis, read again once a second.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from fastapi import FastAPI, Response
from redis.asyncio import BlockingConnectionPool, Redis

from loadtests.baselines.documents import answer, new_documents, pick

STREAM, RECENT = "records", "recent"
RECENT_FOR_S = 1.0

redis = Redis(connection_pool=BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=64, timeout=30))
recent: list[dict[str, Any]] = []
read_at = 0.0


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Close the connections with the app."""
    yield
    await redis.aclose()


app = FastAPI(lifespan=lifespan)


@app.get("/api/data")
async def data() -> Response:
    """Five reads and five writes, the writes in one round trip."""
    reads, documents = pick(await recent_documents()), new_documents()
    pipeline = redis.pipeline(transaction=False)
    for document in documents:
        pipeline.xadd(STREAM, {"document": orjson.dumps(document)})
    await pipeline.execute()
    return answer(reads, documents)


async def recent_documents() -> list[dict[str, Any]]:
    """Some stored documents, at most a second old."""
    global recent, read_at
    if time.monotonic() - read_at > RECENT_FOR_S:
        read_at = time.monotonic()  # first: those who come meanwhile take what is there
        recent = [orjson.loads(document) for document in await redis.lrange(RECENT, 0, -1)]
    return recent


@app.get("/readyz")
async def ready() -> dict[str, str]:
    """200 while Redis answers."""
    await redis.ping()
    return {"status": "ready"}


@app.get("/v1/status")
async def status() -> dict[str, Any]:
    """What waits in the stream."""
    return {"backlog": {"writes": await redis.xlen(STREAM)}}

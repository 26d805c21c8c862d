"""The form found in the wild: an answer that says success, and tiny messages in a Redis stream.

`uvicorn --workers 2 loadtests.baselines.toy:app`, with REDIS_URL. Its five documents have no payload, its reads are
names of what it wrote before, and `toy_drain.py` stores a hundred documents a second, whatever comes in.
"""

from __future__ import annotations

import os
import random
import uuid
from collections import deque
from datetime import UTC, datetime
from typing import Any

import orjson
from fastapi import FastAPI, Response
from redis.asyncio import BlockingConnectionPool, Redis

STREAM = "records"

redis = Redis(connection_pool=BlockingConnectionPool.from_url(os.environ["REDIS_URL"], max_connections=64, timeout=30))
written: deque[str] = deque(maxlen=100)
app = FastAPI()


@app.get("/api/data")
async def data() -> Response:
    """Five messages in one round trip."""
    now = datetime.now(UTC).isoformat()
    reads = random.sample(written, min(5, len(written)))
    ids = [str(uuid.uuid4()) for _ in range(5)]
    pipeline = redis.pipeline(transaction=False)
    for index, id_ in enumerate(ids):
        pipeline.xadd(STREAM, {"id": id_, "index": index, "timestamp": now})
    await pipeline.execute()
    written.extend(ids)
    body = {"status": "success", "reads": reads, "writes": ids, "timestamp": now}
    return Response(orjson.dumps(body), media_type="application/json")


@app.get("/readyz")
async def ready() -> dict[str, str]:
    """200 while Redis answers."""
    await redis.ping()
    return {"status": "ready"}


@app.get("/v1/status")
async def status() -> dict[str, Any]:
    """What waits in the stream."""
    return {"backlog": {"writes": await redis.xlen(STREAM)}}

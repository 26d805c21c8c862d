"""FastAPI on uvicorn, each document straight to MongoDB.

`uvicorn loadtests.baselines.straight:app`, with MONGODB_URI. The answer comes when MongoDB has stored all five.
Reads come from the first hundred documents in the server's order, read again once a second; a sort would read them all.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Response
from pymongo import AsyncMongoClient

from loadtests.baselines.documents import answer, new_documents, pick

RECENT = 100
RECENT_FOR_S = 1.0

client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(os.environ["MONGODB_URI"])
collection = client.assessmentdb.records
recent: list[dict[str, Any]] = []
read_at = 0.0


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Close the connections with the app."""
    yield
    await client.close()


app = FastAPI(lifespan=lifespan)


@app.get("/api/data")
async def data() -> Response:
    """Five reads and five writes."""
    reads, documents = pick(await recent_documents()), new_documents()
    await asyncio.gather(*(collection.insert_one(document) for document in documents))
    return answer(reads, documents)


async def recent_documents() -> list[dict[str, Any]]:
    """Some documents, at most a second old."""
    global recent, read_at
    if time.monotonic() - read_at > RECENT_FOR_S:
        read_at = time.monotonic()  # first: those who come meanwhile take what is there
        recent = await collection.find({}, limit=RECENT).to_list()
    return recent


@app.get("/readyz")
async def ready() -> dict[str, str]:
    """200 while MongoDB answers."""
    await client.admin.command("ping")
    return {"status": "ready"}


@app.get("/v1/status")
async def status() -> dict[str, Any]:
    """Nothing waits here: what was answered is stored."""
    return {"backlog": {"writes": 0}}

"""The worker behind `queued.py`: stores the stream's documents in MongoDB, a thousand at a time.

`python -m loadtests.baselines.drain`, with REDIS_URL and MONGODB_URI. Entries leave the stream after MongoDB has them,
so a worker that dies repeats its last batch, and MongoDB refuses what it has already.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import Any

import orjson
from pymongo import MongoClient
from pymongo.errors import BulkWriteError, PyMongoError
from redis import Redis, RedisError

from loadtests.baselines.queued import RECENT, STREAM

BATCH = 1000
KEPT = 100
IDLE_S = 0.02
RETRY_S = 0.5
DUPLICATE = 11000


def main() -> None:
    """Run until killed."""
    redis: Any = Redis.from_url(os.environ["REDIS_URL"])  # its types are of every protocol and decoding at once
    collection = MongoClient[dict[str, Any]](os.environ["MONGODB_URI"]).assessmentdb.records
    while True:
        try:
            entries = redis.xrange(STREAM, count=BATCH)
            if not entries:
                time.sleep(IDLE_S)
                continue
            packed = [fields[b"document"] for _, fields in entries]
            store(collection, [orjson.loads(document) for document in packed])
            pipeline = redis.pipeline(transaction=False)
            pipeline.xdel(STREAM, *(entry for entry, _ in entries))
            pipeline.lpush(RECENT, *packed[-KEPT:])
            pipeline.ltrim(RECENT, 0, KEPT - 1)
            pipeline.execute()
        except (RedisError, PyMongoError) as error:
            print(f"drain: {error}", flush=True)
            time.sleep(RETRY_S)


def store(collection: Any, documents: list[dict[str, Any]]) -> None:
    """Insert them all; those that are there already count as stored."""
    for document in documents:
        document["timestamp"] = datetime.fromisoformat(document["timestamp"])
    try:
        collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        if any(failure["code"] != DUPLICATE for failure in error.details["writeErrors"]):
            raise


if __name__ == "__main__":
    main()

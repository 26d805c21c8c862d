"""The worker behind `toy.py`: a hundred documents a second, one by one, which is how it keeps to a hundred commands.

`python -m loadtests.baselines.toy_drain`, with REDIS_URL and MONGODB_URI.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import Any

from pymongo import MongoClient
from redis import Redis

from loadtests.baselines.toy import STREAM

PERIOD_S = 0.01


def main() -> None:
    """Run until killed."""
    redis: Any = Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)  # its types are of every decoding
    collection = MongoClient[dict[str, Any]](os.environ["MONGODB_URI"]).assessmentdb.records
    while True:
        for entry, fields in redis.xrange(STREAM, count=1):
            document = {
                "_id": fields["id"],
                "type": "write",
                "index": int(fields["index"]),
                "timestamp": datetime.fromisoformat(fields["timestamp"]),
            }
            collection.insert_one(document)
            redis.xdel(STREAM, entry)
        time.sleep(PERIOD_S)


if __name__ == "__main__":
    main()

"""The documents of GET /api/data, and its answer."""

from __future__ import annotations

import random
import string
import uuid
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.responses import Response

WRITES = READS = 5
PAYLOAD_CHARACTERS = 512
_ALPHABET = (string.ascii_letters + string.digits).encode()
# One pass over random bytes instead of 512 draws; some letters come a little more often, which nobody minds here.
_LETTERS = bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256))


def new_documents() -> list[dict[str, Any]]:
    """Five documents with ids of their own."""
    now = datetime.now(UTC)
    return [
        {
            "_id": str(uuid.uuid4()),
            "type": "write",
            "index": index,
            "payload": random.randbytes(PAYLOAD_CHARACTERS).translate(_LETTERS).decode(),
            "timestamp": now,
        }
        for index in range(WRITES)
    ]


def answer(reads: list[str], writes: list[dict[str, Any]]) -> Response:
    """What the client gets."""
    body = {
        "status": "success",
        "reads": reads,
        "writes": [document["_id"] for document in writes],
        "timestamp": datetime.now(UTC),
    }
    return Response(orjson.dumps(body), media_type="application/json")


def pick(recent: list[dict[str, Any]]) -> list[str]:
    """The ids of up to five of these documents."""
    return [document["_id"] for document in random.sample(recent, min(READS, len(recent)))]

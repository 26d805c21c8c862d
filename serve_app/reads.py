"""Reading documents: near cache, then the intake (buffers, shared cache, MongoDB)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from starlette.requests import Request

from actors.core.document import Key
from actors.core.errors import SpillwayError
from actors.core.ports import Intake
from serve_app.answers import JSON, Answer
from serve_app.documents import decode, encode, relaxed
from serve_app.errors import Problem
from serve_app.near_cache import NearCache
from serve_app.parameters import Targets, headers_of, query
from serve_app.patches import apply

_ANY_SIZE = 1 << 31


class Read(NamedTuple):
    """One answer: BSON, or None when there is no such document; and where it came from."""

    document: bytes | None
    source: str  # "near", "buffer", "cache" or "mongodb"


class Reader:
    """Documents as every write accepted so far makes them, or at most the near cache's age behind writes elsewhere."""

    def __init__(
        self, intake: Intake, near: NearCache, targets: Targets, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._intake = intake
        self._near = near
        self._targets = targets
        self._monotonic = monotonic

    def near(self, namespace: str, id_: str) -> bytes | None:
        return self._near.get(Key(namespace, id_), self._monotonic())

    def far(self, namespace: str, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that are not in the near cache."""
        return self._near.lacks(namespace, ids, self._monotonic())

    async def fetch(self, namespace: str, ids: Sequence[str]) -> list[Read | SpillwayError]:
        """From beyond the near cache, in the order asked, and into it; or why not, as `Intake.read`."""
        mark = self._near.mark()
        reads: list[Read | SpillwayError] = []
        for id_, found in zip(ids, await self._intake.read(namespace, ids), strict=True):
            if isinstance(found, SpillwayError):
                reads.append(found)
                continue
            document = found.base
            if found.patches:
                document = encode(apply(found.base, found.patches, id_), _ANY_SIZE)
            if document is not None:
                self._near.put(Key(namespace, id_), document, self._monotonic(), mark)
            reads.append(Read(document, found.source))
        return reads

    async def get(self, request: Request) -> Answer:
        """GET /v1/{database}/{collection}/{id}"""
        query(request)
        namespace, id_ = self._targets.document(request)
        fresh = b"no-cache" in headers_of(request).get(b"cache-control", b"").lower()
        near = None if fresh else self.near(namespace, id_)
        (read,) = await self.fetch(namespace, [id_]) if near is None else [Read(near, "near")]
        if isinstance(read, SpillwayError):
            raise read
        if read.document is None:
            raise Problem("no-such-document", "There is none under this id.", "id")
        return Answer(200, relaxed(decode(read.document)), JSON, [(b"x-spillway-source", read.source.encode())])

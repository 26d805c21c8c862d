"""Reading documents: near cache, then the intake (buffers, shared cache, MongoDB)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from starlette.requests import Request

from actors.core.document import Key
from actors.core.errors import SpillwayError
from actors.core.intake import Found, Intake
from serve_app.answers import JSON, Answer
from serve_app.breather import Breather
from serve_app.documents import decode, encode, relaxed
from serve_app.errors import Problem
from serve_app.near_cache import NearCache
from serve_app.parameters import Targets, query
from serve_app.patches import steps
from serve_app.turns import Turns

_ANY_SIZE = 1 << 31
_AT_ONCE = 4  # documents put together: each takes many times the bytes of its BSON meanwhile


class Read(NamedTuple):
    """One answer: BSON, or None when there is no such document; and where it came from."""

    document: bytes | None
    source: str  # "near", "buffer", "cache" or "mongodb"


class Reader:
    """Documents as every write accepted so far makes them, or at most the near cache's age behind writes elsewhere."""

    def __init__(
        self,
        intake: Intake,
        near: NearCache,
        targets: Targets,
        monotonic: Callable[[], float] = time.monotonic,
        patience_s: float = 5.0,
    ) -> None:
        """`patience_s`: how long a document may wait until it is put together."""
        self._intake = intake
        self._near = near
        self._targets = targets
        self._monotonic = monotonic
        self._putting_together = Turns(patience_s, _AT_ONCE)
        self._under_way: dict[int, asyncio.Task[bytes]] = {}  # by the identity of the patches, which the task holds

    def near(self, namespace: str, id_: str) -> bytes | None:
        return self._near.get(Key(namespace, id_), self._monotonic())

    def far(self, namespace: str, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that are not in the near cache."""
        return self._near.lacks(namespace, ids, self._monotonic())

    async def fetch(self, namespace: str, ids: Sequence[str]) -> list[Read | Exception]:
        """From beyond the near cache, in the order asked, and into it; or why not: as `Intake.read`, `Turns.take`."""
        mark = self._near.mark()
        asked_s = self._monotonic()  # they grow old from here on: some may be told at once and wait for the others
        reads: list[Read | Exception] = []
        answers = await self._intake.read(namespace, ids)
        for id_, found in zip(ids, answers, strict=True):
            if isinstance(found, SpillwayError):
                reads.append(found)
                continue
            document = found.base
            if found.patches:
                try:
                    document = await self._put_together(found, id_)
                except Problem as overloaded:
                    reads.append(overloaded)
                    continue
            if document is not None:
                self._near.put(Key(namespace, id_), document, asked_s, mark)
            reads.append(Read(document, found.source))
        return reads

    async def _put_together(self, found: Found, id_: str) -> bytes:
        """Once for all who have asked together, who have the same patches in hand; others are answered in between."""
        mine = id(found.patches)
        if mine not in self._under_way:
            self._under_way[mine] = task = asyncio.create_task(self._document(found, id_))
            task.add_done_callback(lambda _: self._under_way.pop(mine))
        return await asyncio.shield(self._under_way[mine])

    async def _document(self, found: Found, id_: str) -> bytes:
        await self._putting_together.take(len(found.base or b"") + sum(map(len, found.patches)))
        try:
            document: dict[str, Any] = {}
            breather = Breather(self._monotonic)
            for step in steps(found.base, found.patches, id_):
                document = step
                if breather.is_due():
                    await breather.take()
            return encode(document, _ANY_SIZE)
        finally:
            self._putting_together.give_back()

    async def get(self, request: Request) -> Answer:
        """GET /v1/{database}/{collection}/{id}"""
        query(request)
        namespace, id_ = self._targets.document(request)
        # It may stand in any of several lines; a proxy adds one of its own.
        fresh = any(
            name == b"cache-control" and b"no-cache" in value.lower() for name, value in request.scope["headers"]
        )
        near = None if fresh else self.near(namespace, id_)
        (read,) = await self.fetch(namespace, [id_]) if near is None else [Read(near, "near")]
        if isinstance(read, Exception):
            raise read
        if read.document is None:
            raise Problem("no-such-document", "There is none under this id.", "id")
        return Answer(200, relaxed(decode(read.document)), JSON, [(b"x-spillway-source", read.source.encode())])

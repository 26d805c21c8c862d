"""Reads: questions to MongoDB, gathered so that they cost as few commands as possible."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from actors.core.errors import DatabaseUnavailable
from actors.core.ports import DocumentStore

Ask = Callable[[], Awaitable[None]]

MAX_WAITING = 10_000  # ids and samples; beyond that the answer would come too late to be of use


class Reads:
    """Concurrent questions for one id share one command; questions for many ids share as many as the server allows."""

    def __init__(self, store: DocumentStore, wake: Callable[[], None]) -> None:
        """`wake` is called whenever there is something new to ask."""
        self._store = store
        self._wake = wake
        self._flights: dict[tuple[str, str], asyncio.Future[bytes | None]] = {}
        self._ids: dict[str, deque[str]] = {}  # namespace -> ids no command has asked for yet
        self._samples: deque[tuple[str, int, asyncio.Future[list[tuple[str, bytes]]]]] = deque()

    def __len__(self) -> int:
        return sum(map(len, self._ids.values())) + len(self._samples)

    async def find(self, namespace: str, ids: Sequence[str]) -> list[bytes | None]:
        """Documents in the order asked. Raises `DatabaseUnavailable`."""
        self._refuse_when_crowded()
        flights = []
        for id_ in ids:
            flight = self._flights.get((namespace, id_))
            if flight is None:
                flight = self._flights[namespace, id_] = asyncio.get_running_loop().create_future()
                self._ids.setdefault(namespace, deque()).append(id_)
            flights.append(flight)
        self._wake()
        return list(await asyncio.gather(*map(asyncio.shield, flights)))

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
        """Some documents with their ids, at most `limit`. Raises `DatabaseUnavailable`."""
        self._refuse_when_crowded()
        answer: asyncio.Future[list[tuple[str, bytes]]] = asyncio.get_running_loop().create_future()
        self._samples.append((namespace, limit, answer))
        self._wake()
        return await answer

    def next(self) -> Ask | None:
        """The question to ask now, to be awaited once; None when there is none. It answers whoever waits, also on error."""
        if self._samples:
            namespace, limit, answer = self._samples.popleft()
            return lambda: self._ask_sample(namespace, limit, answer)
        for namespace, waiting in self._ids.items():
            ids = [waiting.popleft() for _ in range(min(len(waiting), self._store.find_limit))]
            if not waiting:
                del self._ids[namespace]
            return lambda: self._ask_find(namespace, ids)
        return None

    def fail(self, reason: str) -> None:
        """Answer every question that still waits with `DatabaseUnavailable`."""
        for namespace, ids in self._ids.items():
            self._land(namespace, ids, DatabaseUnavailable(reason, 1.0))
        self._ids.clear()
        while self._samples:
            _settle(self._samples.popleft()[2], DatabaseUnavailable(reason, 1.0))

    async def _ask_find(self, namespace: str, ids: list[str]) -> None:
        try:
            self._land(namespace, ids, await self._store.find(namespace, ids))
        except BaseException as error:
            self._land(namespace, ids, DatabaseUnavailable(str(error), 1.0))
            raise

    async def _ask_sample(self, namespace: str, limit: int, answer: asyncio.Future[Any]) -> None:
        try:
            _settle(answer, await self._store.sample(namespace, limit))
        except BaseException as error:
            _settle(answer, DatabaseUnavailable(str(error), 1.0))
            raise

    def _land(self, namespace: str, ids: Sequence[str], result: dict[str, bytes] | DatabaseUnavailable) -> None:
        for id_ in ids:
            flight = self._flights.pop((namespace, id_))
            _settle(flight, result if isinstance(result, DatabaseUnavailable) else result.get(id_))

    def _refuse_when_crowded(self) -> None:
        if len(self) >= MAX_WAITING:
            raise DatabaseUnavailable(f"{MAX_WAITING} reads wait for MongoDB already", 1.0)


def _settle(answer: asyncio.Future[Any], result: Any) -> None:
    if answer.done():  # whoever asked has gone
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
        answer.exception()  # mark as seen: it is no mistake when nobody waits any more
    else:
        answer.set_result(result)

"""Reads: questions to MongoDB, gathered so that they cost as few commands as possible."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from actors.core.errors import DatabaseUnavailable
from actors.core.ports import DocumentStore

Ask = Callable[[], Awaitable[None]]

MAX_WAITING = 10_000  # ids and samples; beyond that the answer would come too late to be of use


class Reads:
    """Questions for one id that wait together share one command; those for many ids share as many as the server allows.

    A question never joins a command that has left: its answer may be older than a write stored since.
    """

    def __init__(self, store: DocumentStore, wake: Callable[[], None]) -> None:
        """`wake` is called whenever there is something new to ask."""
        self._store = store
        self._wake = wake
        self._finds: dict[str, dict[str, asyncio.Future[bytes | None]]] = {}  # namespace -> id -> answer; not yet asked
        self._samples: dict[tuple[str, int], asyncio.Future[list[tuple[str, bytes]]]] = {}
        self._samples_turn = True

    def __len__(self) -> int:
        return sum(map(len, self._finds.values())) + len(self._samples)

    async def find(self, namespace: str, ids: Sequence[str]) -> list[bytes | None]:
        """Documents in the order asked. Raises `DatabaseUnavailable`."""
        self._refuse_when_crowded()
        if not ids:
            return []
        waiting = self._finds.setdefault(namespace, {})
        loop = asyncio.get_running_loop()
        answers = [waiting[id_] if id_ in waiting else waiting.setdefault(id_, loop.create_future()) for id_ in ids]
        self._wake()
        return list(await asyncio.gather(*map(asyncio.shield, answers)))

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
        """Some documents with their ids, at most `limit`. Raises `DatabaseUnavailable`."""
        self._refuse_when_crowded()
        answer = self._samples.get((namespace, limit))
        if answer is None:
            answer = self._samples[namespace, limit] = asyncio.get_running_loop().create_future()
        self._wake()
        return await asyncio.shield(answer)

    def next(self) -> Ask | None:
        """The question to ask now, to be awaited once; None when there is none. It answers whoever waits, also on
        error.

        Samples and finds take turns, and so do the collections.
        """
        self._samples_turn = not self._samples_turn
        if self._samples and (self._samples_turn or not self._finds):
            (namespace, limit), answer = next(iter(self._samples.items()))
            del self._samples[namespace, limit]
            return lambda: self._ask_sample(namespace, limit, answer)
        if not self._finds:
            return None
        namespace = next(iter(self._finds))
        waiting = self._finds.pop(namespace)
        ids = list(islice(waiting, self._store.find_limit))
        asked = {id_: waiting.pop(id_) for id_ in ids}
        if waiting:
            self._finds[namespace] = waiting  # at the end of the line
        return lambda: self._ask_find(namespace, asked)

    def fail(self, reason: str) -> None:
        """Answer every question that still waits with `DatabaseUnavailable`."""
        for asked in self._finds.values():
            _settle_all(asked, DatabaseUnavailable(reason, 1.0))
        for answer in self._samples.values():
            _settle(answer, DatabaseUnavailable(reason, 1.0))
        self._finds.clear()
        self._samples.clear()

    async def _ask_find(self, namespace: str, asked: dict[str, asyncio.Future[bytes | None]]) -> None:
        try:
            found = await self._store.find(namespace, list(asked))
            again = {id_: asked.pop(id_) for id_, document in found.items() if document is None}
            _settle_all(asked, found)
            self._ask_again(namespace, again)
        except BaseException as error:
            _settle_all(asked, DatabaseUnavailable(str(error), 1.0))
            raise

    def _ask_again(self, namespace: str, asked: dict[str, asyncio.Future[bytes | None]]) -> None:
        """What did not fit into an answer is asked in the next command. Of one that somebody asked for meanwhile, both
        get the later answer."""
        if not asked:
            return
        waiting = self._finds.setdefault(namespace, {})
        for id_, answer in asked.items():
            later = waiting.setdefault(id_, answer)
            if later is not answer:
                later.add_done_callback(partial(_pass_on, answer))
        self._wake()

    async def _ask_sample(self, namespace: str, limit: int, answer: asyncio.Future[Any]) -> None:
        try:
            _settle(answer, await self._store.sample(namespace, limit))
        except BaseException as error:
            _settle(answer, DatabaseUnavailable(str(error), 1.0))
            raise

    def _refuse_when_crowded(self) -> None:
        if len(self) >= MAX_WAITING:
            raise DatabaseUnavailable(f"{MAX_WAITING} reads wait for MongoDB already", 1.0)


def _pass_on(answer: asyncio.Future[bytes | None], later: asyncio.Future[bytes | None]) -> None:
    _settle(answer, later.exception() or later.result())


def _settle_all(
    asked: dict[str, asyncio.Future[bytes | None]], result: Mapping[str, bytes | None] | DatabaseUnavailable
) -> None:
    for id_, answer in asked.items():
        _settle(answer, result if isinstance(result, DatabaseUnavailable) else result.get(id_))


def _settle(answer: asyncio.Future[Any], result: Any) -> None:
    if answer.done():  # whoever asked has gone
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
        answer.exception()  # mark as seen: it is no mistake when nobody waits any more
    else:
        answer.set_result(result)

"""Reads: questions to MongoDB, gathered so that they cost as few commands as possible."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from actors.core.errors import AnswerTooLarge, DatabaseUnavailable
from actors.core.ports import DocumentStore

Ask = Callable[[], Awaitable[None]]

MAX_WAITING = 10_000  # ids and samples; beyond that the answer would come too late to be of use
ANSWER_BYTES = 16 * 1024 * 1024  # of documents: with so many in hand nothing more is asked for this caller
_AT_ONCE = 3  # ids asked together where a command carries fewer; three of the largest documents still fit a channel

_Answer = asyncio.Future[bytes | AnswerTooLarge | None]


class Reads:
    """Questions for one id that wait together share one command; those for many ids share as many as the server allows.

    A question never joins a command that has left: its answer may be older than a write stored since.
    """

    def __init__(self, store: DocumentStore, wake: Callable[[], None]) -> None:
        """`wake` is called whenever there is something new to ask."""
        self._store = store
        self._wake = wake
        self._finds: dict[str, dict[str, _Answer]] = {}  # namespace -> id -> answer; not yet asked
        self._samples: dict[tuple[str, int], asyncio.Future[list[tuple[str, bytes]]]] = {}
        self._samples_turn = True

    def __len__(self) -> int:
        return sum(map(len, self._finds.values())) + len(self._samples)

    async def find(self, namespace: str, ids: Sequence[str]) -> list[bytes | AnswerTooLarge | None]:
        """Documents in the order asked; `AnswerTooLarge` for each that is to be asked for in another call, because
        others before it are so large, which never happens to all of them. Raises `DatabaseUnavailable`.

        Each command that is asked gives at least one of them. Behind one that was full fewer are asked at once: that
        one has left a cursor, for the server to forget after ten minutes.
        """
        self._refuse_when_crowded()
        found: dict[str, bytes | None] = {}
        most = at_once = max(self._store.find_limit, _AT_ONCE)
        size = 0
        left = list(dict.fromkeys(ids))
        while left and size < ANSWER_BYTES:
            asked = self._ask_for(namespace, left[:most])
            await asyncio.wait(asked.values())
            error = next((error for answer in asked.values() if (error := answer.exception())), None)
            told = {id_: answer.result() for id_, answer in asked.items() if answer.exception() is None}
            more = {id_: one for id_, one in told.items() if not isinstance(one, AnswerTooLarge)}
            found |= more
            if error is not None:
                if found:  # those in hand are told; whoever asks for the others hears what is the matter
                    break
                raise error
            size += sum(len(document) for document in more.values() if document is not None)
            most = min(at_once, most * 2) if len(more) == len(asked) else max(1, len(more))
            left = [id_ for id_ in left if id_ not in found]
        late = AnswerTooLarge("others before it are so large", 0.0)
        return [found.get(id_, late) for id_ in ids]

    def _ask_for(self, namespace: str, ids: list[str]) -> dict[str, _Answer]:
        waiting, loop = self._finds.setdefault(namespace, {}), asyncio.get_running_loop()
        self._wake()
        return {id_: waiting[id_] if id_ in waiting else waiting.setdefault(id_, loop.create_future()) for id_ in ids}

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

    async def _ask_find(self, namespace: str, asked: dict[str, _Answer]) -> None:
        try:
            found = await self._store.find(namespace, list(asked))
            full = AnswerTooLarge("one answer of MongoDB's does not hold it with the others")
            _settle_all(asked, {id_: full if document is None else document for id_, document in found.items()})
        except BaseException as error:
            _settle_all(asked, DatabaseUnavailable(str(error), 1.0))
            raise

    async def _ask_sample(self, namespace: str, limit: int, answer: asyncio.Future[Any]) -> None:
        try:
            _settle(answer, await self._store.sample(namespace, limit))
        except BaseException as error:
            _settle(answer, DatabaseUnavailable(str(error), 1.0))
            raise

    def _refuse_when_crowded(self) -> None:
        if len(self) >= MAX_WAITING:
            raise DatabaseUnavailable(f"{MAX_WAITING} reads wait for MongoDB already", 1.0)


def _settle_all(
    asked: dict[str, _Answer], result: Mapping[str, bytes | AnswerTooLarge] | DatabaseUnavailable
) -> None:
    for id_, answer in asked.items():
        _settle(answer, result if isinstance(result, DatabaseUnavailable) else result.get(id_))


def _settle(answer: asyncio.Future[Any], result: Any) -> None:
    if answer.done():  # whoever asked has gone
        return
    if isinstance(result, DatabaseUnavailable):
        answer.set_exception(result)
        answer.exception()  # mark as seen: it is no mistake when nobody waits any more
    else:
        answer.set_result(result)

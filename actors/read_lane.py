"""ReadLane: from the readers of one replica to one buffer, many ids a call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from actors.calls import ActorAway, Remote
from actors.core.errors import AnswerTooLarge, BufferUnavailable, SpillwayError

MAX_IDS = 50  # in a call: an answer has 64 MiB at most, and documents 1 MiB as a rule
MAX_WAITING = 10_000  # ids; beyond that the answer would come too late to be of use

T = TypeVar("T")  # what is told of one id


@dataclass(slots=True, eq=False)
class _Question(Generic[T]):
    answer: asyncio.Future[T | SpillwayError]
    readers: int = 0  # who still wait for it


class ReadLane(Generic[T]):
    """Natural batching for reads: what is asked while a call is under way shares the next.

    A question never joins a call that has left already: its answer might be older than a write acknowledged since.
    Each id has its own answer: nobody is refused because of another one's document.
    """

    def __init__(self, buffer: Remote, method: str, timeout_s: float, late: type[SpillwayError]) -> None:
        """`method` of the buffer takes a namespace and ids. `late` is answered when that takes longer than
        `timeout_s`."""
        self._buffer = buffer
        self._method = method
        self._timeout_s = timeout_s
        self._late = late
        self._waiting: dict[str, dict[str, _Question[T]]] = {}  # by namespace and id
        self._count = 0  # of those
        self._most = MAX_IDS  # in the next call: fewer behind an answer that could not carry all
        self._serving: asyncio.Task[None] | None = None

    async def read(self, namespace: str, ids: Sequence[str]) -> list[T | SpillwayError]:
        """What the buffer answers, or why it does not, in the order asked."""
        if self._count + len(ids) > MAX_WAITING:
            return [self._late(f"{self._count} reads wait already", 1.0)] * len(ids)
        questions = [self._question(namespace, id_) for id_ in ids]
        if self._serving is None:
            self._serving = asyncio.get_running_loop().create_task(self._serve())
        for question in questions:
            question.readers += 1
        try:
            await asyncio.wait({question.answer for question in questions}, timeout=self._timeout_s)
        finally:
            for question in questions:
                question.readers -= 1
        late = self._late(f"no answer within {self._timeout_s:g} s", 1.0)
        return [question.answer.result() if question.answer.done() else late for question in questions]

    def _question(self, namespace: str, id_: str) -> _Question[T]:
        waiting = self._waiting.setdefault(namespace, {})
        question = waiting.get(id_)
        if question is None:
            question = waiting[id_] = _Question(asyncio.get_running_loop().create_future())
            self._count += 1
        return question

    async def _serve(self) -> None:
        try:
            while self._waiting:
                namespace = next(iter(self._waiting))
                waiting = self._waiting.pop(namespace)
                taken = {id_: waiting.pop(id_) for id_ in list(islice(waiting, MAX_IDS))}
                self._count -= len(taken)
                if waiting:
                    self._waiting[namespace] = waiting  # at the end of the line
                while asked := {id_: one for id_, one in taken.items() if one.readers and not one.answer.done()}:
                    await self._call(namespace, dict(islice(asked.items(), self._most)))
        finally:
            self._serving = None

    async def _call(self, namespace: str, asked: dict[str, _Question[T]]) -> None:
        ids = list(asked)
        answers: Sequence[T | SpillwayError]
        try:
            answers = await self._buffer.call(self._method, namespace, ids, timeout_s=self._timeout_s)
        except AnswerTooLarge as error:
            answers = [error] * len(ids)
        except ActorAway as error:
            answers = [BufferUnavailable(str(error), 1.0)] * len(ids)
        except SpillwayError as error:
            answers = [error] * len(ids)
        except BaseException as error:
            _answer(asked, [BufferUnavailable(f"the read was cut short: {error}", 1.0)] * len(ids))
            raise
        _answer(asked, answers if len(ids) > 1 else [_alone(answer) for answer in answers])
        told = sum(not isinstance(answer, AnswerTooLarge) for answer in answers)
        self._most = min(MAX_IDS, self._most * 2) if told == len(ids) else told or max(1, len(ids) // 2)


def _alone(answer: T | SpillwayError) -> T | SpillwayError:
    """What is too large although nothing else was asked for always will be."""
    return BufferUnavailable(str(answer), 1.0) if isinstance(answer, AnswerTooLarge) else answer


def _answer(asked: dict[str, _Question[T]], answers: Sequence[T | SpillwayError]) -> None:
    for question, answer in zip(asked.values(), answers, strict=True):
        if not question.answer.done() and not isinstance(answer, AnswerTooLarge):  # else it is asked for again
            question.answer.set_result(answer)

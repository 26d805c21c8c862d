"""ReadLane: from the readers of one replica to one buffer, many ids a call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice

from actors.calls import Remote
from actors.core.errors import BufferUnavailable, SpillwayError
from actors.core.ports import Found

MAX_IDS = 50  # in a call: an answer has 64 MiB at most, and documents 1 MiB as a rule


class ReadLane:
    """Natural batching for reads: what is asked while a call is under way shares the next.

    A question never joins a call that has left already: its answer might be older than a write acknowledged since.
    """

    def __init__(self, buffer: Remote, timeout_s: float) -> None:
        self._buffer = buffer
        self._timeout_s = timeout_s
        self._waiting: dict[str, dict[str, asyncio.Future[Found]]] = {}  # namespace -> id -> answer
        self._serving: asyncio.Task[None] | None = None

    async def read(self, namespace: str, ids: Sequence[str]) -> list[Found]:
        """In the order asked. Raises as `Intake.read`, and `ActorAway`."""
        waiting = self._waiting.setdefault(namespace, {})
        loop = asyncio.get_running_loop()
        answers = [waiting[id_] if id_ in waiting else waiting.setdefault(id_, loop.create_future()) for id_ in ids]
        if self._serving is None:
            self._serving = loop.create_task(self._serve())
        return list(await asyncio.gather(*map(asyncio.shield, answers)))

    async def _serve(self) -> None:
        try:
            while self._waiting:
                namespace = next(iter(self._waiting))
                waiting = self._waiting.pop(namespace)
                asked = {id_: waiting.pop(id_) for id_ in list(islice(waiting, MAX_IDS))}
                if waiting:
                    self._waiting[namespace] = waiting  # at the end of the line
                await self._call(namespace, asked)
        finally:
            self._serving = None

    async def _call(self, namespace: str, asked: dict[str, asyncio.Future[Found]]) -> None:
        try:
            found = await self._buffer.call("read", namespace, list(asked), timeout_s=self._timeout_s)
        except BaseException as error:
            ours = isinstance(error, SpillwayError)
            told = error if ours else BufferUnavailable(f"the read was cut short: {error}", 1.0)
            for answer in asked.values():
                if not answer.done():
                    answer.set_exception(told)
                    answer.exception()  # its reader may have gone; then nobody is left to look at it
            if not ours:
                raise
            return
        for answer, one in zip(asked.values(), found, strict=True):
            if not answer.done():
                answer.set_result(one)

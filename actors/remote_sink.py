"""RemoteSink: the MongoWriter, dressed as the `BatchSink` that a buffer sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.calls import ActorAway, Remote
from actors.core.batching import Command
from actors.core.errors import AnswerTooLarge, LogUnavailable, WriterUnavailable
from actors.core.outcome import Report

_ANSWER_S = 3_600.0  # a batch may wait for MongoDB as long as it takes; a dead writer is noticed at once


class RemoteSink:
    """The MongoWriter, dressed as a `BatchSink`."""

    def __init__(self, writer: Remote) -> None:
        self._writer = writer

    async def write(self, commands: Sequence[Command]) -> list[Report]:
        reports: list[Report] = await self._ask("write", list(commands), timeout_s=_ANSWER_S)
        return reports

    async def find(self, namespace: str, ids: Sequence[str]) -> list[bytes | AnswerTooLarge | None]:
        documents: list[bytes | AnswerTooLarge | None] = await self._ask("find", namespace, list(ids), timeout_s=10.0)
        return documents

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
        documents: list[tuple[str, bytes]] = await self._ask("sample", namespace, limit, timeout_s=10.0)
        return documents

    async def _ask(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        try:
            return await self._writer.call(method, *arguments, timeout_s=timeout_s)
        except (ActorAway, LogUnavailable) as error:  # one that cannot ask whose a stream is does not write for it
            raise WriterUnavailable(str(error), 1.0) from error

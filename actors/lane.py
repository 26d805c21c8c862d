"""Lane: from the requests of one replica to one buffer, many writes a call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

from actors.calls import ActorAway, Remote
from actors.core.errors import BufferUnavailable, OutcomeUnknown, QueueFull, SpillwayError, TooLarge
from actors.core.pacing import backoff_s
from actors.core.ports import Keyed, KeyedAnswer
from actors.inflow import Kept

SPACING_S = 0.004  # from one departure to the next: a call costs as much as several requests, whatever it carries
MAX_PAUSE_S = 0.25  # a buffer may ask for more: beyond this a refusal is the better answer
MAX_CALL_BYTES = 4 * 1024 * 1024
MAX_REQUEST_BYTES = 48 * 1024 * 1024  # a channel carries 64 MiB in a call
MAX_WAITING_BYTES = 64 * 1024 * 1024

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Request:
    payload: bytes
    writes: int
    keyed: Keyed | None
    bytes: int
    told: Callable[[str, int], Any] | None  # makes the answer of a plain one
    answer: asyncio.Future[Any]


class Lane:
    """Natural batching: a call leaves when the last one is answered, and not right behind it, with all that has come in
    the meantime. The first after a while leaves at once, unless the buffer is filling and asked for a pause.

    A second call under way would make both smaller, and a call costs as much as several requests (decision 15).
    """

    def __init__(self, buffer: Remote, timeout_s: float) -> None:
        self._buffer = buffer
        self._timeout_s = timeout_s
        self._waiting: deque[_Request] = deque()
        self._waiting_bytes = 0
        self._scheduled = False
        self._next_s = 0.0  # on the loop's clock: no call leaves before
        self._under_way: asyncio.Task[None] | None = None  # kept here as well: the loop itself only holds tasks weakly

    def append(self, payload: bytes, writes: int, told: Callable[[str, int], T]) -> asyncio.Future[T]:
        """What `told` makes of the position of the entry, and of the offset in it of the first write, once they are
        known. Raises as `Intake.append`, at once or later.

        Whoever stops waiting cancels the answer; the append goes on.
        """
        return self._enqueue(_Request(payload, writes, None, len(payload), told, _future()))

    def append_keyed(self, keyed: Keyed, writes: int) -> asyncio.Future[KeyedAnswer]:
        """What became of a request under a key; else like `append`."""
        return self._enqueue(_Request(b"", writes, keyed, len(keyed.payload), None, _future()))

    def _enqueue(self, request: _Request) -> asyncio.Future[Any]:
        if request.bytes > MAX_REQUEST_BYTES:
            raise TooLarge(f"It has {request.bytes} bytes as BSON; at most {MAX_REQUEST_BYTES} are taken at once.")
        if self._waiting_bytes + request.bytes > MAX_WAITING_BYTES:
            raise QueueFull(f"{self._waiting_bytes} bytes wait for {self._buffer.name} already", 1.0)
        self._waiting.append(request)
        self._waiting_bytes += request.bytes
        self._schedule()
        return request.answer

    def _schedule(self) -> None:
        if self._waiting and self._under_way is None and not self._scheduled:
            loop = asyncio.get_running_loop()
            if loop.time() >= self._next_s:
                loop.call_soon(self._send)
            else:
                loop.call_at(self._next_s, self._send)
            self._scheduled = True  # afterwards: where there was no memory for it, the next request tries again

    def _send(self) -> None:
        self._scheduled = False
        self._next_s = asyncio.get_running_loop().time() + SPACING_S
        group = self._take()
        try:
            self._under_way = asyncio.create_task(self._call(group))
        except BaseException as error:  # no memory, say: nothing is under way, and nobody waits for nothing
            self._cut_short(group, error)
            raise

    def _take(self) -> list[_Request]:
        group: list[_Request] = []
        size = 0
        while self._waiting and (not group or size + self._waiting[0].bytes <= MAX_CALL_BYTES):
            request = self._waiting.popleft()
            size += request.bytes
            group.append(request)
        self._waiting_bytes -= size
        return group

    async def _call(self, group: list[_Request]) -> None:
        try:
            kept = await self._append(
                b"".join(request.payload for request in group),
                sum(request.writes for request in group if request.keyed is None),
                [request.keyed for request in group if request.keyed is not None],
            )
            self._answer(group, kept)
            self._pause(kept.pause_s * sum(request.writes for request in group))
        except SpillwayError as error:
            for request in group:
                if not request.answer.done():
                    request.answer.set_exception(error)
        except BaseException as error:
            self._cut_short(group, error)
            raise
        finally:
            self._under_way = None
            self._schedule()

    def _pause(self, seconds: float) -> None:
        self._next_s = max(self._next_s, asyncio.get_running_loop().time() + min(seconds, MAX_PAUSE_S))

    async def _append(self, payload: bytes, writes: int, keyed: list[Keyed]) -> Kept:
        """The same call again until the deadline: the ids are given, so twice is once. It hides a buffer's restart."""
        deadline = monotonic() + self._timeout_s
        attempt, began = 0, False
        while True:
            try:
                kept: Kept = await self._buffer.call("append", payload, writes, keyed, timeout_s=deadline - monotonic())
                return kept
            except ActorAway as error:
                began = began or error.began
                attempt += 1
                pause = backoff_s(attempt, most_s=0.5)
                if monotonic() + pause >= deadline:
                    raise (OutcomeUnknown if began else BufferUnavailable)(str(error), 1.0) from error
                await asyncio.sleep(pause)
            except SpillwayError as error:
                if not began:
                    raise
                # This attempt surely kept nothing; an earlier one may have.
                raise OutcomeUnknown(f"an earlier attempt may have been kept: {error}", error.retry_after_s) from error

    @staticmethod
    def _cut_short(group: list[_Request], error: BaseException) -> None:
        for request in group:
            if not request.answer.done():
                request.answer.set_exception(OutcomeUnknown(f"the append was cut short: {error}", 1.0))

    @staticmethod
    def _answer(group: list[_Request], kept: Kept) -> None:
        first = kept.first
        answers = iter(kept.keyed)
        for request in group:
            if request.told is None:
                result: Any = next(answers)
            else:
                result = request.told(kept.position, first)
                first += request.writes
            if not request.answer.done():  # its caller may have gone
                request.answer.set_result(result)


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()

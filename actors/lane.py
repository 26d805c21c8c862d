"""Lane: from the requests of one replica to one buffer, many writes a call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
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
    until_s: float  # on the loop's clock: it is in no call that leaves then or later
    answer: asyncio.Future[Any]
    began: bool = False  # an attempt before this one may have kept it


class Lane:
    """Natural batching: a call leaves when the last one is answered, and not right behind it, with all that has come in
    the meantime. The first after a while leaves at once, unless the buffer is filling and asked for a pause.

    A second call under way would make both smaller, and a call costs as much as several requests (decision 15).

    What a buffer that is away did not answer is asked again, in its place in the line: the ids are given, so twice is
    once. It hides a restart. A request whose time is up is in no further call; one under way may take until the time of
    the last in it is up, and the edge speaks for the others before.
    """

    def __init__(self, buffer: Remote, timeout_s: float) -> None:
        """`timeout_s`: how long a request waits in all, in line and for its answer."""
        self._buffer = buffer
        self._timeout_s = timeout_s
        self._waiting: deque[_Request] = deque()
        self._waiting_bytes = 0
        self._scheduled = False
        self._next_s = 0.0  # on the loop's clock: no call leaves before
        self._away = 0  # attempts in a row without an answer
        self._why = ""  # there was none
        self._under_way: asyncio.Task[None] | None = None  # kept here as well: the loop itself only holds tasks weakly

    def append(self, payload: bytes, writes: int, told: Callable[[str, int], T]) -> asyncio.Future[T]:
        """What `told` makes of the position of the entry, and of the offset in it of the first write, once they are
        known. Raises as `Intake.append`, at once or later.

        Whoever stops waiting cancels the answer; the append goes on.
        """
        return self._enqueue(payload, writes, None, len(payload), told)

    def append_keyed(self, keyed: Keyed, writes: int) -> asyncio.Future[KeyedAnswer]:
        """What became of a request under a key; else like `append`."""
        return self._enqueue(b"", writes, keyed, len(keyed.payload), None)

    def _enqueue(
        self, payload: bytes, writes: int, keyed: Keyed | None, size: int, told: Callable[[str, int], Any] | None
    ) -> asyncio.Future[Any]:
        if size > MAX_REQUEST_BYTES:
            raise TooLarge(f"It has {size} bytes as BSON; at most {MAX_REQUEST_BYTES} are taken at once.")
        if self._waiting_bytes + size > MAX_WAITING_BYTES:
            raise QueueFull(f"{self._waiting_bytes} bytes wait for {self._buffer.name} already", 1.0)
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._timeout_s
        request = _Request(payload, writes, keyed, size, told, until_s, loop.create_future())
        self._waiting.append(request)
        self._waiting_bytes += size
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
        if not group:
            return
        try:
            self._under_way = asyncio.create_task(self._call(group))
        except BaseException as error:  # no memory, say: nothing is under way, and nobody waits for nothing
            self._cut_short(group, error)
            raise

    def _take(self) -> list[_Request]:
        """What fits into the next call. Those whose time is up are told so instead."""
        now = asyncio.get_running_loop().time()
        why = self._why if self._away else "others were before it"
        group: list[_Request] = []
        size = 0
        while self._waiting and (not group or size + self._waiting[0].bytes <= MAX_CALL_BYTES):
            request = self._waiting.popleft()
            self._waiting_bytes -= request.bytes
            if request.until_s <= now:
                _refuse(request, BufferUnavailable(f"no answer within {self._timeout_s:g} s: {why}", 1.0))
            else:
                size += request.bytes
                group.append(request)
        return group

    async def _call(self, group: list[_Request]) -> None:
        try:
            try:
                kept = await self._append(group)
            except ActorAway as error:
                self._put_back(group, error)
            else:
                self._away = 0
                self._answer(group, kept)
                self._pause(kept.pause_s * sum(request.writes for request in group))
        except SpillwayError as error:
            self._away = 0
            for request in group:
                _refuse(request, error)
        except BaseException as error:
            self._cut_short(group, error)
            raise
        finally:
            self._under_way = None
            self._schedule()

    async def _append(self, group: list[_Request]) -> Kept:
        kept: Kept = await self._buffer.call(
            "append",
            b"".join(request.payload for request in group),
            sum(request.writes for request in group),
            [request.keyed for request in group if request.keyed is not None],
            timeout_s=group[-1].until_s - asyncio.get_running_loop().time(),  # it came last
        )
        return kept

    def _put_back(self, group: list[_Request], error: ActorAway) -> None:
        self._away, self._why = self._away + 1, str(error)
        self._next_s = asyncio.get_running_loop().time() + backoff_s(self._away, most_s=0.5)
        for request in reversed(group):
            request.began = request.began or error.began
            self._waiting.appendleft(request)
            self._waiting_bytes += request.bytes

    def _pause(self, seconds: float) -> None:
        self._next_s = max(self._next_s, asyncio.get_running_loop().time() + min(seconds, MAX_PAUSE_S))

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


def _refuse(request: _Request, error: SpillwayError) -> None:
    if request.answer.done():
        return
    if request.began:  # this attempt surely kept nothing; an earlier one may have
        error = OutcomeUnknown(f"an earlier attempt may have been kept: {error}", error.retry_after_s)
    request.answer.set_exception(error)

"""Lane: from the requests of one replica to one buffer, many writes a call."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from actors.appends import Kept
from actors.calls import ActorAway, ActorGone, Remote
from actors.core.arrivals import LaneCall
from actors.core.errors import BufferUnavailable, OutcomeUnknown, QueueFull, SpillwayError, TooLarge
from actors.core.pacing import backoff_s
from actors.core.ports import Keyed, KeyedAnswer

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


@dataclass(slots=True, eq=False)
class _Call:
    sent: LaneCall
    requests: list[_Request]
    began: bool = False  # an attempt before this one may have kept it


class Lane:
    """Natural batching: a call leaves when the last one is answered, and not right behind it, with all that has come in
    the meantime. The first after a while leaves at once, unless the buffer is filling and asked for a pause.

    A second call under way would make both smaller, and a call costs as much as several requests (decision 15).

    What a buffer that is away did not answer is asked again, before all others, which hides a restart. What may have
    been kept is asked again as it was, under its number: the buffer tells it from the log, and keeps it once. It may
    take until the time of the last request in it is up, and the edge speaks for the others before. Of what has not
    begun, a request whose time is up is in no further call. Nobody waits for a buffer that is gone.
    """

    def __init__(self, buffer: Remote, timeout_s: float) -> None:
        """`timeout_s`: how long a request waits in all, in line and for its answer."""
        self._buffer = buffer
        self._timeout_s = timeout_s
        self._name = uuid4().hex
        self._number = 0  # of the last call
        self._again: _Call | None = None  # may have been kept, and is asked before anything else
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
        if (self._waiting or self._again) and self._under_way is None and not self._scheduled:
            loop = asyncio.get_running_loop()
            if loop.time() >= self._next_s:
                loop.call_soon(self._send)
            else:
                loop.call_at(self._next_s, self._send)
            self._scheduled = True  # afterwards: where there was no memory for it, the next request tries again

    def _send(self) -> None:
        self._scheduled = False
        self._next_s = asyncio.get_running_loop().time() + SPACING_S
        call = self._asked_before() or self._take()
        if call is None:
            return
        try:
            self._under_way = asyncio.create_task(self._ask(call))
        except BaseException as error:  # no memory, say: nothing is under way, and nobody waits for nothing
            self._cut_short(call.requests, error)
            call.requests = []  # asyncio may run it all the same, where only the note of the task found no memory
            raise

    def _asked_before(self) -> _Call | None:
        """What may have been kept, unless nobody waits for it any more. Those whose time is up are told so."""
        call = self._again
        if call is not None:
            now = asyncio.get_running_loop().time()
            for request in call.requests:
                if request.until_s <= now:
                    self._tell_late(request, began=True)
            self._again = None  # afterwards: whom there was no memory to tell is told later
            if call.requests[-1].until_s <= now:  # it came last
                return None
        return call

    def _take(self) -> _Call | None:
        """What fits into the next call. Those whose time is up are told so instead."""
        now = asyncio.get_running_loop().time()
        requests: list[_Request] = []
        size = 0
        try:
            while self._waiting and (not requests or size + self._waiting[0].bytes <= MAX_CALL_BYTES):
                request = self._waiting[0]
                if request.until_s <= now:
                    self._tell_late(request, began=False)
                else:
                    size += request.bytes
                    requests.append(request)
                self._waiting.popleft()
                self._waiting_bytes -= request.bytes
            if not requests:
                return None
            self._number += 1
            plain = sum(request.writes for request in requests if request.keyed is None)
            return _Call(LaneCall(self._name, self._number, plain), requests)
        except BaseException as error:  # no memory, say: what has left the line is in no call
            self._cut_short(requests, error)
            raise

    def _tell_late(self, request: _Request, *, began: bool) -> None:
        why = self._why if self._away else "others were before it"
        _refuse(request, BufferUnavailable(f"no answer within {self._timeout_s:g} s: {why}", 1.0), began=began)

    async def _ask(self, call: _Call) -> None:
        if not call.requests:  # cut short, and others may be under way
            return
        try:
            try:
                kept = await self._append(call)
            except ActorAway as error:
                self._put_back(call, error)
            else:
                self._away = 0
                self._answer(call, kept)
                self._pause(kept.pause_s * sum(request.writes for request in call.requests))
        except SpillwayError as error:
            self._away = 0
            for request in call.requests:
                _refuse(request, error, began=call.began)
        except BaseException as error:
            self._cut_short(call.requests, error)
            raise
        finally:
            self._under_way = None
            self._schedule()

    async def _append(self, call: _Call) -> Kept:
        requests = call.requests
        kept: Kept = await self._buffer.call(
            "append",
            call.sent,
            b"".join(request.payload for request in requests),
            sum(request.writes for request in requests),
            [request.keyed for request in requests if request.keyed is not None],
            timeout_s=requests[-1].until_s - asyncio.get_running_loop().time(),  # it came last
        )
        return kept

    def _put_back(self, call: _Call, error: ActorAway) -> None:
        self._away, self._why = self._away + 1, str(error)
        self._next_s = asyncio.get_running_loop().time() + backoff_s(self._away, most_s=0.5)
        if isinstance(error, ActorGone):
            for request in call.requests:
                _refuse(request, BufferUnavailable(str(error), 1.0), began=call.began)
            return
        if call.began or error.began:
            call.began = True
            self._again = call
            return
        for request in reversed(call.requests):
            self._waiting.appendleft(request)
            self._waiting_bytes += request.bytes

    def _pause(self, seconds: float) -> None:
        self._next_s = max(self._next_s, asyncio.get_running_loop().time() + min(seconds, MAX_PAUSE_S))

    @staticmethod
    def _cut_short(requests: list[_Request], error: BaseException) -> None:
        for request in requests:
            if not request.answer.done():
                request.answer.set_exception(OutcomeUnknown(f"the append was cut short: {error}", 1.0))

    @staticmethod
    def _answer(call: _Call, kept: Kept) -> None:
        first = kept.first
        answers = iter(kept.keyed)
        for request in call.requests:
            if request.told is None:
                result: Any = next(answers)
            else:
                result = request.told(kept.position, first)
                first += request.writes
            if not request.answer.done():  # its caller may have gone
                request.answer.set_result(result)


def _refuse(request: _Request, error: SpillwayError, *, began: bool) -> None:
    if request.answer.done():
        return
    if began:  # this attempt surely kept nothing; an earlier one may have
        error = OutcomeUnknown(f"an earlier attempt may have been kept: {error}", error.retry_after_s)
    request.answer.set_exception(error)

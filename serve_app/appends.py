"""Appends that outlive the client that asked for them, and the wait for MongoDB after them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from actors.core.document import Key, Kind, Write
from actors.core.errors import IdempotencyConflict, OutcomeUnknown
from actors.core.intake import Intake, State
from actors.core.receipt import Receipt
from serve_app.deadlines import Deadlines
from serve_app.errors import FAULTS, Problem
from serve_app.limits import EdgeLimits
from serve_app.near_cache import NearCache
from serve_app.parameters import IdempotencyKey
from serve_app.turns import Turns

logger = logging.getLogger(__name__)
T = TypeVar("T")

_GRACE_S = 1.0  # the intake knows better what happened; the edge speaks only when it stays silent
_LOGGED = State("logged")


class Appends:
    """Every append belongs to this object: a client that disconnects cancels its answer, never the append.

    It has its turn until it has ended, so those whose callers have gone count as well.
    """

    def __init__(self, intake: Intake, near: NearCache, turns: Turns, limits: EdgeLimits) -> None:
        self._intake = intake
        self._near = near
        self._turns = turns
        self._deadlines = Deadlines(limits.request_timeout_s + _GRACE_S)
        self._under_way: dict[asyncio.Future[Any], asyncio.Future[Any]] = {}  # the loop itself only holds tasks weakly

    async def keep(
        self, make: Callable[[], Sequence[Write]], size: int = 0, key: IdempotencyKey | None = None
    ) -> tuple[list[Receipt], bool]:
        """Receipts once all writes are durable, and whether they are new (a known idempotency key keeps nothing).

        `make` gives the writes, and is called when it is their turn. Raises what `Intake.append` raises, `Problem`
        as `Turns.take`; when the outcome is unknown, as a `Problem` with the ids.
        """
        writes: Sequence[Write] = ()

        def begin() -> Awaitable[Any]:
            if key is None:
                return self._intake.append(writes)
            return self._intake.append_once(key.digest, key.record(writes), writes)

        def append() -> Awaitable[Any]:
            nonlocal writes
            writes = make()
            changed = [write.key for write in writes if write.kind != Kind.INSERT]  # nobody can have read a new id
            return self._then_evict(begin, changed) if changed else begin()

        try:
            kept = await self.own(append, size)
            return (kept, True) if key is None else kept
        except (OutcomeUnknown, TimeoutError) as error:
            ids = [write.id for write in writes]
            message = error.message if isinstance(error, OutcomeUnknown) else ""
            named = {"id": ids[0]} if len(ids) == 1 else {"ids": ids}
            raise Problem("outcome-unknown", message or FAULTS["outcome-unknown"].title + ".", **named) from None
        except IdempotencyConflict as error:
            detail = error.message or FAULTS[error.code].title + "."
            raise Problem(error.code, detail, "Idempotency-Key") from None

    async def own(self, work: Callable[[], Awaitable[T]], size: int = 0) -> T:
        """The result of `work`, which begins when it is its turn and runs to its end whatever becomes of the caller.

        While it waits it holds `size` bytes. Raises what it raises, `Problem` as `Turns.take`, and `TimeoutError` when
        it takes longer than an append may.
        """
        await self._turns.take(size)
        begun: asyncio.Future[T] | None = None
        try:
            answer = asyncio.get_running_loop().create_future()
            begun = asyncio.ensure_future(work())
            self._under_way[begun] = answer
            begun.add_done_callback(self._ended)
        except BaseException:  # no memory, say: nobody will hear of its end
            if begun is not None:
                self._under_way.pop(begun, None)
            self._turns.give_back()
            raise
        self._deadlines.begin(answer)
        result: T = await answer
        return result

    async def settle(self, receipts: Sequence[Receipt], wait_s: float) -> list[State]:
        """What became of durable writes after at most `wait_s`. Never raises: durable they are, whatever breaks."""
        if wait_s > 0:
            try:
                async with asyncio.timeout(wait_s + _GRACE_S):
                    states = await self._intake.wait(receipts, wait_s)
                return [state if state.name != "unknown" else _LOGGED for state in states]
            except Exception as error:
                logger.warning("Waiting for MongoDB failed, answering 'logged': %r", error)
        return [_LOGGED] * len(receipts)

    async def finish(self) -> None:
        """Returns when every append that has begun has ended. For the way down."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    def _ended(self, begun: asyncio.Future[Any]) -> None:
        self._turns.give_back()
        answer = self._under_way.pop(begun)
        self._deadlines.end(answer)
        if begun.cancelled():
            answer.cancel()
        elif (error := begun.exception()) is not None:  # looked at even if its caller has gone, or was told before
            if not answer.done():
                answer.set_exception(error)
        elif not answer.done():
            answer.set_result(begun.result())

    async def _then_evict(self, begin: Callable[[], Awaitable[T]], changed: list[Key]) -> T:
        """Afterwards, so that no read from before the append stays in the cache; on errors too: it may be kept."""
        try:
            return await begin()
        finally:
            for key in changed:
                self._near.evict(key)

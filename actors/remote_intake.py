"""RemoteIntake: the pool of BufferActors, dressed as the `Intake` that the HTTP edge sees."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Iterable, Sequence
from typing import Any

from actors.calls import ActorAway, Remote
from actors.core.dead_letter import DeadLetter, Page, Selection
from actors.core.document import Key, Write, encode_writes
from actors.core.errors import (
    BufferUnavailable,
    DatabaseUnavailable,
    IdempotencyConflict,
    IdempotencyFull,
    OutcomeUnknown,
    SpillwayError,
)
from actors.core.intake import Found, State
from actors.core.ports import Keyed, KeyedAnswer, Resolved
from actors.core.position import order
from actors.core.receipt import Receipt
from actors.core.sharding import heir_of, pool_of, shard_of
from actors.core.status import summarize
from actors.lane import Lane
from actors.read_lane import ReadLane
from actors.watch import Watch

_STATS_S = 1.0
_COUNT_S = 0.1
_READ_S = 10.0


class RemoteIntake:
    """Satisfies `Intake`. One per replica; must live on a running loop."""

    def __init__(self, buffers: Sequence[Remote], streams: Sequence[str], writer: Remote, *, timeout_s: float) -> None:
        """`buffers[i]` owns `streams[i]`. `timeout_s`: how long an append is tried before its caller is told."""
        self._buffers = list(buffers)
        self._streams = list(streams)
        self._writer = writer
        self._lanes = [Lane(buffer, timeout_s) for buffer in buffers]
        # Two lanes: what a buffer can tell at once must not wait for MongoDB because others ask for what it cannot.
        self._near = [ReadLane[Found | None](buffer, "read_near", _READ_S, BufferUnavailable) for buffer in buffers]
        self._far = [ReadLane[Found](buffer, "read", _READ_S, DatabaseUnavailable) for buffer in buffers]
        self._states = [ReadLane[State](buffer, "states", _READ_S, BufferUnavailable) for buffer in buffers]
        self._watches = [Watch(buffer) for buffer in buffers]
        self._dead_letters: int | None = None
        self._counting: asyncio.Task[None] | None = None

    def append(self, writes: Sequence[Write]) -> Awaitable[list[Receipt]]:
        return self._append_to(0, writes) if len(self._lanes) == 1 else self._append_by_shard(writes)

    async def _append_by_shard(self, writes: Sequence[Write]) -> list[Receipt]:
        groups = self._by_shard(enumerate(writes))
        results = await asyncio.gather(
            *(self._append_part(shard, [write for _, write in group]) for shard, group in groups.items()),
            return_exceptions=True,
        )
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures and len(failures) < len(results):
            raise OutcomeUnknown(f"a part of the request was kept: {failures[0]}", 1.0) from failures[0]
        if failures:  # of which one that does not know stands for all: another's "surely not kept" is only about itself
            raise next((failure for failure in failures if isinstance(failure, OutcomeUnknown)), failures[0])
        receipts: dict[int, Receipt] = {}
        for group, some in zip(groups.values(), results, strict=True):
            assert not isinstance(some, BaseException)
            receipts.update({at: receipt for (at, _), receipt in zip(group, some, strict=True)})
        return [receipts[at] for at in range(len(writes))]

    async def _append_part(self, shard: int, writes: Sequence[Write]) -> list[Receipt]:
        return await self._append_to(shard, writes)  # what it raises at once is an answer too: others may have begun

    def _append_to(self, shard: int, writes: Sequence[Write]) -> asyncio.Future[list[Receipt]]:
        stream = self._streams[shard]

        def receipts(position: str, first: int) -> list[Receipt]:
            return [Receipt(stream, position, i, write.namespace, write.id) for i, write in enumerate(writes, first)]

        return self._lanes[shard].append(encode_writes(writes), len(writes), receipts)

    async def append_once(self, key: str, fingerprint: str, writes: Sequence[Write]) -> tuple[list[Receipt], bool]:
        receipts: dict[int, Receipt] = {}
        fresh = True
        pool = len(self._lanes)
        for number, (shard, group) in enumerate(self._by_shard(enumerate(writes)).items()):
            payload = encode_writes([write for _, write in group])
            # The first record has the key's own name: another body, in whatever shards, must meet it.
            name = f"{key}:{pool}:{number}" if number else key
            try:
                answer = await self._append_keyed(shard, Keyed(name, fingerprint, payload), len(group))
                fresh = fresh and answer.fresh
                if not number and len(writes) > 1 and pool_of(answer.position.partition("/")[0]) != pool:
                    # It was begun in a pool of another size, with other groups: of these, some may not have been kept.
                    keyed = Keyed(f"{key}:{pool}:{number}", fingerprint, payload)
                    answer = await self._append_keyed(shard, keyed, len(group))
            except SpillwayError as error:
                if not receipts:
                    raise
                raise OutcomeUnknown(f"a part of the request was kept: {error}", error.retry_after_s) from error
            stream, _, position = answer.position.partition("/")
            receipts.update({at: Receipt(stream, position, i, w.namespace, w.id) for i, (at, w) in enumerate(group)})
        return [receipts[at] for at in range(len(writes))], fresh

    async def _append_keyed(self, shard: int, keyed: Keyed, writes: int) -> KeyedAnswer:
        answer = await self._lanes[shard].append_keyed(keyed, writes)
        if answer.conflict:
            raise IdempotencyConflict
        if answer.full:
            raise IdempotencyFull
        return answer

    async def wait(self, receipts: Sequence[Receipt], timeout_s: float) -> list[State]:
        # One wait for each entry of the log, and not for each of its thousand writes.
        places = list(dict.fromkeys((receipt.stream, receipt.position) for receipt in receipts))
        known = [place for place in places if place[0] in self._streams]
        waits = (self._watches[self._streams.index(stream)].until(position, timeout_s) for stream, position in known)
        resolved = dict(zip(known, await asyncio.gather(*waits), strict=True))
        return list(await asyncio.gather(*(self._state_after(receipt, resolved) for receipt in receipts)))

    async def _state_after(self, receipt: Receipt, waited: dict[tuple[str, str], Resolved | None]) -> State:
        """`waited`: what was heard about each entry of our streams; None where the time was up."""
        if receipt.stream not in self._streams:
            return await self.state(receipt)
        resolved = waited[receipt.stream, receipt.position]
        if resolved is None:
            return State("logged")
        reason = resolved.rejections.get(f"{receipt.position}/{receipt.offset}")
        if reason is not None:
            return State("dead-lettered", reason)
        if order(receipt.position) > order(resolved.complete_since):
            return State("stored")
        return await self.state(receipt)

    async def state(self, receipt: Receipt) -> State:
        try:
            shard = heir_of(receipt.stream, len(self._buffers))
        except ValueError:  # no stream of ours
            return State("unknown")
        (state,) = await self._states[shard].read(receipt.stream, [f"{receipt.position}/{receipt.offset}"])
        if isinstance(state, SpillwayError):
            raise state
        return state

    async def read(self, namespace: str, ids: Sequence[str]) -> list[Found | SpillwayError]:
        groups: dict[int, list[str]] = {}
        for id_ in dict.fromkeys(ids):
            groups.setdefault(shard_of(Key(namespace, id_), len(self._buffers)), []).append(id_)
        answers = await asyncio.gather(*(self._read_at(shard, namespace, some) for shard, some in groups.items()))
        found = {
            one: answer
            for some, got in zip(groups.values(), answers, strict=True)
            for one, answer in zip(some, got, strict=True)
        }
        return [found[id_] for id_ in ids]

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
        shard = random.randrange(len(self._buffers))  # noqa: S311 - any will do; each knows the documents it owns
        documents: list[tuple[str, bytes]] = await self._ask(shard, "sample", namespace, limit)
        return documents

    async def open_check(self) -> None:
        """Raises what keeps a buffer from its log, for example `UnsafeLog`; returns when all of them have theirs."""
        await asyncio.gather(*(buffer.call("stats", timeout_s=_STATS_S) for buffer in self._buffers))

    async def status(self) -> dict[str, Any]:
        if self._counting is None or self._counting.done():
            self._counting = asyncio.create_task(self._count_dead_letters())
        writer, *buffers = await asyncio.gather(
            *(_told(remote, "stats") for remote in (self._writer, *self._buffers)),
        )
        # Asked of Redis, which may hang just then; that it does must not be told late because of this number.
        await asyncio.wait({self._counting}, timeout=_COUNT_S)
        return summarize(buffers, writer, self._dead_letters)

    async def _count_dead_letters(self) -> None:
        self._dead_letters = await _told(self._buffers[0], "count_dead_letters")

    async def dead_letters(self, selection: Selection, limit: int, after: str) -> Page:
        page: Page = await self._ask(0, "dead_letters", selection, limit, after)
        return page

    async def dead_letter(self, id: str) -> DeadLetter | None:
        letter: DeadLetter | None = await self._ask(0, "dead_letter", id)
        return letter

    async def forget_dead_letters(self, ids: Sequence[str]) -> int:
        try:
            return int(await self._buffers[0].call("forget_dead_letters", list(ids), timeout_s=_READ_S))
        except ActorAway as error:
            if error.began:
                raise OutcomeUnknown(f"they may be gone: {error}", 1.0) from error
            raise BufferUnavailable(str(error), 1.0) from error

    def _by_shard(self, writes: Iterable[tuple[int, Write]]) -> dict[int, list[tuple[int, Write]]]:
        groups: dict[int, list[tuple[int, Write]]] = {}
        for at, write in writes:
            groups.setdefault(shard_of(write.key, len(self._lanes)), []).append((at, write))
        return groups

    async def _read_at(self, shard: int, namespace: str, ids: list[str]) -> list[Found | SpillwayError]:
        near = dict(zip(ids, await self._near[shard].read(namespace, ids), strict=True))
        unknown = [id_ for id_, answer in near.items() if answer is None]
        far = dict(zip(unknown, await self._far[shard].read(namespace, unknown), strict=True)) if unknown else {}
        return [answer for answer in (near | far).values() if answer is not None]

    async def _ask(self, shard: int, method: str, *arguments: Any) -> Any:
        try:
            return await self._buffers[shard].call(method, *arguments, timeout_s=_READ_S)
        except ActorAway as error:
            raise BufferUnavailable(str(error), 1.0) from error


async def _told(remote: Remote, method: str) -> Any:
    """What it says in good time; None when it says nothing."""
    try:
        return await remote.call(method, timeout_s=_STATS_S)
    except SpillwayError:
        return None

"""Outbox: the buffers' commands, waiting to be merged and sent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from actors.core.batching import Command, Origin
from actors.core.errors import Fenced
from actors.core.outcome import Outcome, Report, join


@dataclass(slots=True, eq=False)
class _Part:
    """One command as a buffer gave it, or a piece of one that was refused."""

    command: Command
    answer: asyncio.Future[Report]
    alone: bool = False  # comes from a refused command: it is merged with nothing until the culprit is found
    queued: bool = True


@dataclass(slots=True, eq=False)
class Load:
    """One wire command's worth of parts. It ends with exactly one `answer`, or goes back through `Outbox.halve`."""

    command: Command
    parts: list[_Part]

    def answer(self, report: Report) -> None:
        """Tell every buffer its part of `report`."""
        start = 0
        for part in self.parts:
            stop = start + len(part.command.ids)
            part.answer.set_result(report.part(start, stop))
            start = stop

    def answer_again(self, reason: str) -> None:
        """None of it is done, or nobody knows: `reason` is for people."""
        self.answer(Report.again(len(self.command.ids), reason))


class Outbox:
    """Parts in the order they came. Parts for one verb and collection leave together, within the limits of a
    command."""

    def __init__(
        self, max_writes: int, max_bytes: int, owns: Callable[[Origin], Awaitable[bool]], *, cuts: bool = False
    ) -> None:
        """`owns`: is it the present owner of its stream? `cuts`: a part with more than `max_bytes` is cut; otherwise it
        goes as it came, alone."""
        self._owns = owns
        self._cuts = cuts
        self._max_writes = max_writes
        self._max_bytes = max_bytes
        self._parts: deque[_Part] = deque()
        self._of_stream: dict[str, list[_Part]] = {}  # what each stream's owner asked for last; perhaps answered
        self._epochs: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._parts)

    async def add(self, commands: Sequence[Command]) -> list[asyncio.Future[Report]]:
        """One future report per command; not to be cancelled. Raises `Fenced` when their stream has a newer owner, and
        what keeps `owns` from knowing.

        A stream has one batch under way. What a dead owner left here is withdrawn, or waited for when it has been sent:
        else two writes to one key might share an unordered command, or overtake each other in two.
        """
        origin = commands[0].origin if commands else None
        if origin is not None:
            await self._end_before(origin)
        parts = [_part(command) for command in commands]
        if origin is not None:  # what is answered holds its bodies, and a stream of an older pool may send no more
            open_ = {stream: left for stream, left in self._of_stream.items() if not all(p.answer.done() for p in left)}
            self._of_stream = {**open_, origin.stream: parts}
        self._parts.extend(parts)
        return [part.answer for part in parts]

    async def _end_before(self, origin: Origin) -> None:
        # Whoever comes later has a higher epoch; but the first that is heard of may be one from before this process.
        if origin.stream not in self._epochs and not await self._owns(origin):
            raise Fenced(f"{origin.stream} is not {origin.owner}'s any more")
        while True:
            if origin.epoch < self._epochs.get(origin.stream, 0):
                raise Fenced(f"{origin.stream} has an owner with a newer epoch than {origin.epoch}")
            self._epochs[origin.stream] = origin.epoch
            left = [part for part in self._of_stream.get(origin.stream, ()) if not part.answer.done()]
            for part in left:
                if part.queued:
                    self._parts.remove(part)
                    part.answer.set_result(Report.all(Outcome.RETRY, len(part.command.ids)))
            sent = [part.answer for part in left if not part.answer.done()]
            if not sent:
                return
            await asyncio.wait(sent)

    def take(self, most_of: Callable[[Command], int]) -> Load:
        """The oldest part and all that may share its command. Only when there is one. A part of more writes than
        `most_of` allows it is cut into pieces first."""
        most = most_of(self._parts[0].command)
        if len(self._parts[0].command.ids) > most:
            self._cut(self._parts.popleft(), most)
        if self._cuts and self._parts[0].command.size > self._max_bytes and len(self._parts[0].command.ids) > 1:
            self._cut_by_bytes(self._parts.popleft())
        most = min(most, self._max_writes)
        first = self._parts.popleft()
        merged = [first]
        if not first.alone:
            writes, size = len(first.command.ids), first.command.size
            kept: deque[_Part] = deque()
            for part in self._parts:
                more, more_bytes = len(part.command.ids), part.command.size
                fits = writes + more <= most and size + more_bytes <= self._max_bytes
                if fits and not part.alone and part.command[:2] == first.command[:2]:
                    merged.append(part)
                    writes, size = writes + more, size + more_bytes
                else:
                    kept.append(part)
            self._parts = kept
        for part in merged:
            part.queued = False
        if len(merged) == 1:
            return Load(first.command, merged)
        ids = [id_ for part in merged for id_ in part.command.ids]
        bodies = [body for part in merged for body in part.command.bodies]
        return Load(Command(*first.command[:2], ids, bodies), merged)

    def halve(self, load: Load) -> None:
        """Some write in `load` can never be taken: queue it again, at the front, in smaller commands."""
        if len(load.parts) > 1:
            for part in load.parts:
                part.alone = part.queued = True
            self._parts.extendleft(reversed(load.parts))
            return
        whole = load.parts[0]
        self._cut(whole, (len(whole.command.ids) + 1) // 2, alone=True)

    def _cut_by_bytes(self, part: _Part) -> None:
        ends, size = [0], 0
        for index, body in enumerate(part.command.bodies):
            size += len(body)
            if size > self._max_bytes and index > ends[-1]:
                ends.append(index)
                size = len(body)
        self._cut_at(part, [*ends, len(part.command.ids)])

    def _cut(self, part: _Part, most: int, *, alone: bool = False) -> None:
        """Into pieces of `most` writes each."""
        count = len(part.command.ids)
        self._cut_at(part, [*range(0, count, most), count], alone=alone)

    def _cut_at(self, part: _Part, ends: Sequence[int], *, alone: bool = False) -> None:
        """Put the pieces of `part` between `ends` at the front; it is answered when all of them are."""
        part.queued = False
        verb, namespace, ids, bodies, _ = part.command
        cuts = [slice(*bounds) for bounds in pairwise(ends)]
        pieces = [_part(Command(verb, namespace, ids[cut], bodies[cut]), alone=alone or part.alone) for cut in cuts]
        self._parts.extendleft(reversed(pieces))
        reports = asyncio.gather(*(piece.answer for piece in pieces))
        reports.add_done_callback(lambda done: part.answer.set_result(_joined(done, len(ids))))


def _joined(reports: asyncio.Future[list[Report]], writes: int) -> Report:
    try:
        return join(reports.result())
    except Exception:  # else the owner of the stream would wait for ever; to be told to try again harms nothing
        return Report.all(Outcome.RETRY, writes)


def _part(command: Command, *, alone: bool = False) -> _Part:
    return _Part(command, asyncio.get_running_loop().create_future(), alone)

"""Outbox: the buffers' commands, waiting to be merged and sent."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from actors.core.batching import Command
from actors.core.outcome import Outcome, Report, join


@dataclass(slots=True, eq=False)
class _Part:
    """One command as a buffer gave it, or a piece of one that was refused."""

    command: Command
    answer: asyncio.Future[Report]
    alone: bool = False  # comes from a refused command: it is merged with nothing until the culprit is found

    @property
    def size(self) -> int:
        return sum(map(len, self.command.bodies))


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
            if not part.answer.done():  # whoever asked may have gone
                part.answer.set_result(report.part(start, stop))
            start = stop

    def answer_all(self, outcome: Outcome) -> None:
        self.answer(Report.all(outcome, len(self.command.ids)))


class Outbox:
    """Parts in the order they came. Parts for one verb and collection leave together, within the limits of a command."""

    def __init__(self, max_writes: int, max_bytes: int) -> None:
        self._max_writes = max_writes
        self._max_bytes = max_bytes
        self._parts: deque[_Part] = deque()

    def __len__(self) -> int:
        return len(self._parts)

    def add(self, commands: Sequence[Command]) -> list[asyncio.Future[Report]]:
        """One future report per command."""
        parts = [_part(command) for command in commands]
        self._parts.extend(parts)
        return [part.answer for part in parts]

    def take(self) -> Load:
        """The oldest part and all that may share its command. Only when there is one."""
        first = self._parts.popleft()
        merged = [first]
        if not first.alone:
            writes, size = len(first.command.ids), first.size
            kept: deque[_Part] = deque()
            for part in self._parts:
                more, more_bytes = len(part.command.ids), part.size
                fits = writes + more <= self._max_writes and size + more_bytes <= self._max_bytes
                if fits and not part.alone and part.command[:2] == first.command[:2]:
                    merged.append(part)
                    writes, size = writes + more, size + more_bytes
                else:
                    kept.append(part)
            self._parts = kept
        if len(merged) == 1:
            return Load(first.command, merged)
        ids = [id_ for part in merged for id_ in part.command.ids]
        bodies = [body for part in merged for body in part.command.bodies]
        return Load(Command(*first.command[:2], ids, bodies), merged)

    def halve(self, load: Load) -> None:
        """Some write in `load` can never be taken: queue it again, at the front, in smaller commands."""
        if len(load.parts) > 1:
            for part in load.parts:
                part.alone = True
            self._parts.extendleft(reversed(load.parts))
            return
        verb, namespace, ids, bodies = load.command
        middle = len(ids) // 2
        halves = [_part(Command(verb, namespace, ids[half], bodies[half]), alone=True) for half in _split(middle)]
        self._parts.extendleft(reversed(halves))
        both = asyncio.gather(*(half.answer for half in halves))
        both.add_done_callback(lambda done: load.answer(join(done.result())))


def _split(middle: int) -> tuple[slice, slice]:
    return slice(0, middle), slice(middle, None)


def _part(command: Command, *, alone: bool = False) -> _Part:
    return _Part(command, asyncio.get_running_loop().create_future(), alone)

"""Doubles of every port, shipped: the whole service runs on them in one process, and the contract tests hold them to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from actors.adapters.clock import ManualClock
from actors.core.batching import Command, Verb
from actors.core.errors import Fenced, SpillwayError
from actors.core.outcome import Outcome, Report
from actors.core.ports import Appended, CommandRefused, DeadLetter, Grant, Keyed, KeyedAnswer, Logged
from actors.core.position import NOTHING, order


class Faults:
    """Errors to be raised by the next calls of a double: `plan(verb, error)` per call, in order."""

    def __init__(self) -> None:
        self._planned: dict[str, list[SpillwayError]] = {}

    def plan(self, verb: str, *errors: SpillwayError) -> None:
        self._planned.setdefault(verb, []).extend(errors)

    def strike(self, verb: str) -> None:
        if self._planned.get(verb):
            raise self._planned[verb].pop(0)


class MemoryDeadLetters:
    """Satisfies `DeadLetters`."""

    def __init__(self) -> None:
        self.letters: dict[str, DeadLetter] = {}

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            self.letters.setdefault(letter.id, letter)

    async def list(self, limit: int, after: str = "") -> list[DeadLetter]:
        ids = list(self.letters)
        start = ids.index(after) + 1 if after in self.letters else 0
        return [self.letters[id_] for id_ in ids[start : start + limit]]

    async def get(self, id: str) -> DeadLetter | None:
        return self.letters.get(id)

    async def remove(self, id: str) -> bool:
        return self.letters.pop(id, None) is not None

    async def size(self) -> int:
        return len(self.letters)


class MemoryLog:
    """Satisfies `WriteLog`. It survives its owner: give the same one to the next `Buffer` and it has crashed and come back."""

    def __init__(
        self, stream: str = "0of1", dead_letters: MemoryDeadLetters | None = None, clock: ManualClock | None = None
    ) -> None:
        self.faults = Faults()
        self.shelf = dead_letters or MemoryDeadLetters()
        self.entries: dict[str, bytes] = {}
        self._stream = stream
        self._clock = clock or ManualClock()
        self._once: dict[str, tuple[str, str]] = {}
        self._last = NOTHING
        self._epoch = 0
        self._owner_epoch = 0

    @property
    def stream(self) -> str:
        return self._stream

    async def open(self) -> int:
        self._epoch += 1
        self._owner_epoch = self._epoch
        return self._epoch

    def usurp(self) -> None:
        """Another owner opens the stream."""
        self._epoch += 1

    async def append(self, payload: bytes, keyed: Sequence[Keyed] = ()) -> Appended:
        self.faults.strike("append")
        if self._owner_epoch != self._epoch:
            raise Fenced(f"a newer owner has epoch {self._epoch}")
        plain = self._add(payload) if payload else ""
        answers = []
        for item in keyed:
            fingerprint, position = self._once.get(item.key, (item.fingerprint, ""))
            if fingerprint != item.fingerprint:
                answers.append(KeyedAnswer("", fresh=False, conflict=True))
            elif position:
                answers.append(KeyedAnswer(position, fresh=False))
            else:
                position = f"{self._stream}/{self._add(item.payload)}"
                self._once[item.key] = (item.fingerprint, position)
                answers.append(KeyedAnswer(position, fresh=True))
        self.faults.strike("append reply")
        return Appended(plain, answers)

    async def replay(self, after: str | None = None) -> AsyncIterator[Logged]:
        self.faults.strike("replay")
        for position, payload in list(self.entries.items()):
            if order(position) > order(after or NOTHING):
                yield Logged(position, payload)

    async def acknowledge(self, position: str) -> None:
        self.faults.strike("acknowledge")
        self.entries = {p: payload for p, payload in self.entries.items() if order(p) > order(position)}

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        self.faults.strike("dead_letter")
        await self.shelf.add(letters)

    async def last_position(self) -> str:
        return self._last

    async def ping(self) -> None:
        self.faults.strike("ping")

    def _add(self, payload: bytes) -> str:
        milliseconds, sequence = order(self._last)
        now_ms = int(self._clock.wall_s() * 1000)
        self._last = f"{now_ms}-0" if now_ms > milliseconds else f"{milliseconds}-{sequence + 1}"
        self.entries[self._last] = payload
        return self._last


class MemoryStore:
    """Satisfies `DocumentStore`. Bodies are opaque here: a PATCH replaces, so tests of patches belong to a real server."""

    def __init__(self, clock: ManualClock | None = None, find_limit: int = 100) -> None:
        self.faults = Faults()
        self.documents: dict[tuple[str, str], bytes] = {}
        self.commands: list[tuple[int, str, int]] = []  # when, what, how many writes
        self.applied: dict[tuple[str, str], int] = {}  # inserts that were no duplicates, per document
        self.poison: dict[str, str] = {}  # id -> why it is rejected
        self.refuses_whole = False  # a poisoned write makes the whole command fail, as a too large one does
        self._clock = clock or ManualClock()
        self._find_limit = find_limit

    @property
    def find_limit(self) -> int:
        return self._find_limit

    async def describe(self) -> None:
        self._note("describe")

    async def store(self, command: Command) -> Report:
        self._note("store", len(command.ids))
        report = self._apply(command)
        self.faults.strike("store reply")
        return report

    def _apply(self, command: Command) -> Report:
        poisoned = [id_ for id_ in command.ids if id_ in self.poison]
        if poisoned and self.refuses_whole:
            raise CommandRefused(self.poison[poisoned[0]])
        outcomes, reasons, before = bytearray(), {}, len(self.documents)
        for index, (id_, body) in enumerate(zip(command.ids, command.bodies, strict=True)):
            key = (command.namespace, id_)
            if id_ in self.poison:
                outcomes.append(Outcome.REJECTED)
                reasons[index] = self.poison[id_]
            elif command.verb == Verb.INSERT and key in self.documents:
                outcomes.append(Outcome.DUPLICATE)
            else:
                if command.verb == Verb.DELETE:
                    self.documents.pop(key, None)
                else:
                    self.documents[key] = body
                    self.applied[key] = self.applied.get(key, 0) + 1
                outcomes.append(Outcome.STORED)
        return Report(bytes(outcomes), reasons, len(self.documents) - before)

    async def find(self, namespace: str, ids: Sequence[str]) -> dict[str, bytes]:
        self._note("find", len(ids))
        return {id_: self.documents[namespace, id_] for id_ in ids if (namespace, id_) in self.documents}

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
        self._note("find")
        return [(id_, body) for (place, id_), body in self.documents.items() if place == namespace][:limit]

    async def count(self, namespace: str) -> int:
        self._note("count")
        return sum(place == namespace for place, _ in self.documents)

    async def probe(self) -> None:
        self.faults.strike("probe")

    async def close(self) -> None: ...

    def _note(self, verb: str, writes: int = 0) -> None:
        self.faults.strike(verb)
        self.commands.append((self._clock.now_ns(), verb, writes))


class MemoryLease:
    """Satisfies `Lease`. `rival` makes it look as if another writer had taken over."""

    def __init__(self, *, ttl_s: float = 3.0, clean: bool = True) -> None:
        self.faults = Faults()
        self.rival = False
        self.released = False
        self._ttl_s = ttl_s
        self._clean = clean
        self._epoch = 0

    @property
    def ttl_s(self) -> float:
        return self._ttl_s

    async def acquire(self) -> Grant | None:
        self.faults.strike("acquire")
        if self.rival:
            return None
        self._epoch += 1
        return Grant(self._epoch, self._clean)

    async def renew(self) -> bool:
        self.faults.strike("renew")
        return not self.rival

    async def release(self) -> None:
        self.released = True


class MemoryCache:
    """Satisfies `Cache`."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}

    async def get(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self.documents.get(key) for key in keys]

    async def put(self, documents: dict[str, bytes]) -> None:
        self.documents.update(documents)

    async def drop(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.documents.pop(key, None)


class RecordingTelemetry:
    """Satisfies `Telemetry`; remembers everything."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, float, dict[str, Any]]] = []

    def count(self, name: str, amount: float = 1, **tags: str) -> None:
        self.records.append(("count", name, amount, tags))

    def gauge(self, name: str, value: float, **tags: str) -> None:
        self.records.append(("gauge", name, value, tags))

    def observe(self, name: str, value: float, **tags: str) -> None:
        self.records.append(("observe", name, value, tags))

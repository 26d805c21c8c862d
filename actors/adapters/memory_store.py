"""The double of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import bson
from bson.errors import BSONError

from actors.adapters.clock import ManualClock
from actors.adapters.faults import Faults
from actors.core.batching import Command, Verb
from actors.core.errors import CommandRefused
from actors.core.outcome import Outcome, Report


class MemoryStore:
    """Satisfies `DocumentStore`. Bodies are opaque, but for those that BSON can read as an update of $set and $unset.

    `hold` keeps commands from being answered: they have arrived and are executed when it is lifted.
    """

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.find_limit = 100
        self.update_limit = 100_000
        self.faults = Faults()
        self.documents: dict[tuple[str, str], bytes] = {}
        self.commands: list[tuple[int, str, int]] = []  # when, what, how many writes
        self.applied: dict[tuple[str, str], int] = {}  # inserts that were no duplicates, per document
        self.poison: dict[str, str] = {}  # id -> why it is rejected
        self.refuses_whole = False  # a poisoned write makes the whole command fail, as a too large one does
        self.hold: asyncio.Event | None = None
        self.answer_holds = 1_000_000  # documents; of those beyond, `find` says that they have to be asked for again
        self._clock = clock or ManualClock()

    async def describe(self) -> None:
        self._note("describe")

    async def store(self, command: Command) -> Report:
        self._note("store", len(command.ids))
        await self._held()
        report = self._apply(command)
        self.faults.strike("store reply")
        return report

    async def _held(self) -> None:
        if self.hold is not None:
            await self.hold.wait()

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
                    try:
                        self.documents[key] = _updated(self.documents.get(key), command.verb, id_, body)
                    except _NoObject as refusal:
                        outcomes.append(Outcome.REJECTED)
                        reasons[index] = str(refusal)
                        continue
                    self.applied[key] = self.applied.get(key, 0) + (command.verb == Verb.INSERT)
                outcomes.append(Outcome.STORED)
        return Report(bytes(outcomes), reasons, len(self.documents) - before)

    async def find(self, namespace: str, ids: Sequence[str]) -> dict[str, bytes | None]:
        self._note("find", len(ids))
        there = [id_ for id_ in ids if (namespace, id_) in self.documents]
        full: Sequence[str] = ids if len(there) > self.answer_holds else ()
        found: dict[str, bytes | None] = dict.fromkeys(full)
        found |= {id_: self.documents[namespace, id_] for id_ in there[: self.answer_holds]}
        await self._held()
        return found

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
        self._note("sample")
        return [(id_, body) for (place, id_), body in self.documents.items() if place == namespace][:limit]

    async def count(self, namespace: str) -> int:
        self._note("count")
        number = sum(place == namespace for place, _ in self.documents)
        await self._held()
        self.faults.strike("count reply")
        return number

    async def probe(self) -> None:
        self.faults.strike("probe")

    async def close(self) -> None: ...

    def _note(self, verb: str, writes: int = 0) -> None:
        self.faults.strike(verb)
        self.commands.append((self._clock.now_ns(), verb, writes))


class _NoObject(Exception):
    """A path leads through a value that is no object."""


def _updated(before: bytes | None, verb: int, id_: str, body: bytes) -> bytes:
    """The document after `body`: itself, or `before` with its $set and $unset. Raises `_NoObject`."""
    if verb != Verb.UPDATE:
        return body
    try:
        update = bson.decode(body)
        if not all(name.startswith("$") for name in update):
            return body
        document = {"_id": id_} if before is None else bson.decode(before)
    except BSONError:
        return body
    for path, value in update.get("$set", {}).items():
        _parent(document, path)[path.rpartition(".")[2]] = value
    for path in update.get("$unset", {}):
        with suppress(_NoObject):  # there is nothing to remove
            _parent(document, path).pop(path.rpartition(".")[2], None)
    return bson.encode(document)


def _parent(document: dict[str, Any], path: str) -> dict[str, Any]:
    for name in path.split(".")[:-1]:
        document = document.setdefault(name, {})
        if not isinstance(document, dict):
            raise _NoObject(f"Cannot create a field in element {name!r} of {path!r}")
    return document

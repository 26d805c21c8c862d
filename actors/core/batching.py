"""Which writes leave together, and in which order: decisions only, the loop that waits is the outflow's."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from actors.core.document import Kind, Write


class Entry(NamedTuple):
    """One entry of the log: the writes of one append, under one position."""

    position: str  # "milliseconds-sequence", as the log gave it; ordered within a stream
    writes: list[Write]
    bytes: int
    accepted_s: float  # wall clock, of the log
    since_ns: int = 0  # monotonic, for the lag; of what an earlier pool left that goes by the wall clock


class Place(NamedTuple):
    """Where a write stands in a batch: entry, and write inside the entry."""

    entry: int
    write: int


class Verb(IntEnum):
    """The wire command that carries it."""

    INSERT = 0
    UPDATE = 1  # PUT and PATCH: both are one update with upsert
    DELETE = 2


class Origin(NamedTuple):
    """Whose writes a command carries: a stream, its owner, and an epoch of that one."""

    stream: str
    epoch: int
    owner: str


class Command(NamedTuple):
    """What one wire command can carry: one verb, one collection, every id once."""

    verb: int
    namespace: str
    ids: list[str]
    bodies: list[bytes]
    origin: Origin | None = None  # tells the writer what an earlier owner left behind; None once merged

    @property
    def size(self) -> int:
        """Bytes of its bodies."""
        return sum(map(len, self.bodies))


_VERB_OF: dict[int, int] = {
    Kind.INSERT: int(Verb.INSERT),
    Kind.PUT: int(Verb.UPDATE),
    Kind.PATCH: int(Verb.UPDATE),
    Kind.DELETE: int(Verb.DELETE),
}


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """When a flush batch is closed."""

    max_writes: int
    max_bytes: int
    linger_s: float  # longest that the oldest write waits for company

    def due_in_s(self, writes: int, size: int, age_s: float, *, urgent: bool) -> float:
        """Seconds until a batch of this count, size and age must leave; 0 for now. `urgent`: somebody waits for
        MongoDB."""
        if urgent or writes >= self.max_writes or size >= self.max_bytes:
            return 0.0
        return max(0.0, self.linger_s - age_s)

    def fits(self, writes: int, size: int, entry: Entry) -> bool:
        """May `entry` join a batch of this size? The first always may, so that an oversized one cannot jam the
        queue."""
        if writes == 0:
            return True
        return writes + len(entry.writes) <= self.max_writes and size + entry.bytes <= self.max_bytes


@dataclass(slots=True)
class Round:
    """Writes that may be applied in any order: no key twice."""

    commands: dict[tuple[int, str], Command] = field(default_factory=dict)
    places: dict[tuple[int, str], list[Place]] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """The rounds of a batch, to be applied one after the other, and what each sent write made superfluous."""

    rounds: list[Round]
    superseded: dict[Place, Place]  # not sent, because the other one says it all

    def is_lacking(self, rejected: Collection[Place]) -> bool:
        """Has one that was not sent to count after all, because these were rejected?"""
        return bool(rejected) and not set(self.superseded.values()).isdisjoint(rejected)

    def covered_by(self, stored: Collection[Place]) -> set[Place]:
        """What these have made superfluous, directly or by one that they have."""
        over = set(stored)
        for place, by in reversed(self.superseded.items()):  # whoever is superseded has superseded before
            if by in over:
                over.add(place)
        return over.difference(stored)


def plan(entries: list[Entry], skip: Collection[Place] = (), origin: Origin | None = None) -> Plan:
    """Order the writes of `entries`, less those at `skip`, so that per key the last accepted one wins.

    An unordered bulk may reorder its operations, so a key may stand in a round only once:
    a later PUT or DELETE replaces what came before it; a later PATCH waits for the next round, and so does an
    INSERT after a DELETE; any other INSERT whose key is there already is a copy of itself and is left out.
    """
    new = None if skip else _plan_of_new(entries, origin)
    if new is not None:
        return new
    standing: dict[tuple[str, str], list[Place]] = {}  # per key the writes that count so far; the index is the round
    sent: dict[Place, tuple[Write, int]] = {}
    superseded: dict[Place, Place] = {}
    for e, entry in enumerate(entries):
        for w, write in enumerate(entry.writes):
            place = Place(e, w)
            if place in skip:
                continue
            before = standing.setdefault(write[1:3], [])  # a Key by value, and cheaper: this runs for every write
            if before and write.kind == Kind.INSERT:
                if sent[before[-1]][0].kind != Kind.DELETE:
                    superseded[place] = before[-1]
                    continue
            elif write.kind != Kind.PATCH:
                for other in before:
                    del sent[other]
                    superseded[other] = place
                before.clear()
            sent[place] = (write, len(before))
            before.append(place)
    rounds: list[Round] = []
    for place, (write, number) in sent.items():
        while len(rounds) <= number:
            rounds.append(Round())
        group = (_VERB_OF[write.kind], write.namespace)
        command = rounds[number].commands.get(group)
        if command is None:
            command = rounds[number].commands[group] = Command(*group, [], [], origin)
            rounds[number].places[group] = []
        command.ids.append(write.id)
        command.bodies.append(write.body)
        rounds[number].places[group].append(place)
    return Plan(rounds, superseded)


def _plan_of_new(entries: list[Entry], origin: Origin | None) -> Plan | None:
    """The plan, if each write is an INSERT into one collection under an id of its own: nearly always, and four times as
    fast. Else None."""
    writes = [write for entry in entries for write in entry.writes]
    if not writes:
        return None
    kinds, namespaces, ids, bodies = zip(*writes, strict=True)
    if set(kinds) != {Kind.INSERT} or len(set(namespaces)) > 1 or len(set(ids)) < len(ids):
        return None
    group = (int(Verb.INSERT), namespaces[0])
    command = Command(*group, list(ids), list(bodies), origin)
    places = [Place(e, w) for e, entry in enumerate(entries) for w in range(len(entry.writes))]
    return Plan([Round({group: command}, {group: places})], {})

"""Any batch, whatever MongoDB refuses of it, against the same writes one after the other."""

from __future__ import annotations

import asyncio
from typing import Any

import bson
from composed import NAMESPACE, ChoosyStore, Service, until
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.core.batching import Command, Verb
from actors.core.document import Kind, Write
from actors.core.outcome import Outcome

VERB_OF = {Kind.INSERT: Verb.INSERT, Kind.PUT: Verb.UPDATE, Kind.PATCH: Verb.UPDATE, Kind.DELETE: Verb.DELETE}
KINDS = st.sampled_from([Kind.INSERT, Kind.PUT, Kind.PUT, Kind.PATCH, Kind.PATCH, Kind.DELETE])
IDS = st.sampled_from(["a", "a", "a", "b"])  # what goes wrong, goes wrong within one document
DOCUMENTS = st.sampled_from([{"x": 1}, {"x": {"y": 1}}, {"refused": True}, {"refused": True}])
PATCHES = st.sampled_from([{"z": 1}, {"x": 1}, {"x.y": 2}, {"refused": True}])


Documents = dict[tuple[str, str], bytes]


@st.composite
def writes(draw: st.DrawFn) -> list[Write]:
    some: list[Write] = []
    for number in range(draw(st.integers(2, 7))):
        kind, id_ = draw(KINDS), draw(IDS)
        body: dict[str, Any] = {}
        if kind in (Kind.INSERT, Kind.PUT):
            body = {"_id": id_, **draw(DOCUMENTS), "by": number}
        elif kind == Kind.PATCH:
            body = {"$set": {**draw(PATCHES), f"by{number}": number}}
        some.append(Write(kind, NAMESPACE, id_, bson.encode(body) if body else b""))
    return some


@settings(max_examples=400)
@given(writes(), st.integers(1, 4), st.booleans())
def test_a_batch_leaves_what_its_writes_leave_one_after_the_other(
    some: list[Write], per_entry: int, is_there: bool
) -> None:
    there = {(NAMESPACE, "a"): bson.encode({"_id": "a", "x": 1})} if is_there else {}
    left, refused = one_by_one(there, some)
    poured, buried = asyncio.run(in_one_batch(there, some, per_entry))
    assert poured == left
    assert buried <= refused, "a dead letter of what is stored"  # what a later write replaced was never sent


def documents(database: ChoosyStore) -> list[Any]:
    return [bson.decode(body) for _, body in sorted(database.documents.items())]


def one_by_one(there: Documents, some: list[Write]) -> tuple[list[Any], set[int]]:
    """The documents afterwards, and which writes were refused."""
    database = ChoosyStore()
    database.documents = dict(there)
    commands = (Command(VERB_OF[Kind(write.kind)], NAMESPACE, [write.id], [write.body]) for write in some)
    reports = [database._apply(command) for command in commands]
    return documents(database), {at for at, report in enumerate(reports) if report.outcomes[0] == Outcome.REJECTED}


async def in_one_batch(there: Documents, some: list[Write], per_entry: int) -> tuple[list[Any], set[int]]:
    """The documents afterwards, and which writes became dead letters."""
    service = Service()
    service.store = database = ChoosyStore()
    database.documents = dict(there)
    service.new_writer()
    await service.start()
    kept = [await service.keep(*some[at : at + per_entry]) for at in range(0, len(some), per_entry)]
    await until(lambda: not service.log.entries, service.clock)
    await service.stop()
    places = [f"{service.log.stream}/{one.position}/{offset}" for one in kept for offset in range(per_entry)]
    return documents(database), {places.index(id_) for id_ in service.log.shelf.letters}

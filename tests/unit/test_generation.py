"""Detached actors outlive a deployment, with the code they were started with. So what they say to each other belongs to
their generation, which is part of their names: a new replica that found an old actor would be understood by nobody."""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from typing import Any

from actors.core.arrivals import LaneCall
from actors.core.batching import Command, Origin
from actors.core.dead_letter import DeadLetter, Page, Selection
from actors.core.intake import Found, State
from actors.core.outcome import Report
from actors.core.ports import Keyed, KeyedAnswer, Resolved
from actors.inflow import Kept
from actors.remote import BufferActor, MongoWriter
from cluster import topology

CARRIED: tuple[Any, ...] = (
    *(LaneCall, Keyed, KeyedAnswer, Kept, Found, Resolved, State),
    *(Command, Origin, Report),
    *(DeadLetter, Page, Selection),
)


def said() -> list[str]:
    """What the actors can be asked, and what questions and answers are made of."""
    methods = [
        f"{actor.__name__}.{name}({method.__annotations__})"
        for actor in (BufferActor, MongoWriter)
        for name, method in inspect.getmembers(actor, inspect.isfunction)
        if not name.startswith("_")
    ]
    return methods + [
        f"{kind.__name__}({[field.name for field in fields(kind)] if is_dataclass(kind) else kind._fields})"
        for kind in CARRIED
    ]


def test_what_actors_say_to_each_other_is_of_their_generation() -> None:
    digest = blake2b("\n".join(said()).encode(), digest_size=4).hexdigest()
    assert (topology.GENERATION, digest) == (4, "0b235a6f"), "raise topology.GENERATION, and note both here"

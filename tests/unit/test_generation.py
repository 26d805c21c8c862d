"""Detached actors outlive a deployment, with the code they were started with. So what they say to each other belongs to
their generation, which is part of their names: a new replica that found an old actor would be understood by nobody."""

from __future__ import annotations

import inspect
from hashlib import blake2b
from typing import Any, get_args, get_type_hints

from actors.remote import BufferActor, MongoWriter
from cluster import topology

ASKED = {
    f"{actor.__name__}.{name}": method
    for actor in (BufferActor, MongoWriter)
    for name, method in inspect.getmembers(actor, inspect.isfunction)
    if not name.startswith("_")
}


def said() -> list[str]:
    """What the actors can be asked, and what questions and answers are made of. A pickle names a class by its module,
    so a class that moves is another word."""
    carried: set[type] = set()
    for method in ASKED.values():
        for hint in get_type_hints(method).values():
            gather(hint, carried)
    return [f"{name}({method.__annotations__})" for name, method in ASKED.items()] + sorted(
        f"{kind.__module__}.{kind.__qualname__}({[*inspect.get_annotations(kind)]})" for kind in carried
    )


def gather(hint: Any, carried: set[type]) -> None:
    """The classes of ours that such a value is made of; any error of ours may stand for the one that is named."""
    for part in get_args(hint):
        gather(part, carried)
    if inspect.isclass(hint) and hint.__module__.startswith("actors.") and hint not in carried:
        carried.add(hint)
        for part in (*get_type_hints(hint).values(), *hint.__subclasses__()):
            gather(part, carried)


def test_what_actors_say_to_each_other_is_of_their_generation() -> None:
    digest = blake2b("\n".join(said()).encode(), digest_size=4).hexdigest()
    assert (topology.GENERATION, digest) == (5, "78c8a710"), "raise topology.GENERATION, and note both here"

"""A merge patch (RFC 7396) as one MongoDB update, and such updates applied to a document as MongoDB would."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from serve_app.documents import decode, document
from serve_app.errors import Problem
from serve_app.ids import InvalidId, id_text, id_value

_INDEX = re.compile(r"0|[1-9][0-9]{0,6}")
_MAX_INDEX = 1_500_000  # MongoDB refuses to fill an array further than that with nulls
# Nulls that one read may fill in. A document has 16 MiB at most, and more of them than this would not fit.
_MAX_PADDING = 3_000_000


def update_of(parsed: Any, id_: str, max_bytes: int) -> dict[str, Any]:
    """The update document `{"$set": {path: value}, "$unset": {path: ""}}` that does what the parsed merge patch says.

    Nested objects become dotted paths, null removes, everything else replaces. Where RFC 7396 would put an object in
    the place of something else, MongoDB does not: for a scalar on the way it refuses the update, which is then a dead
    letter (to remove inside it changes nothing), and in an array a name of digits is a position. Raises `Problem`
    naming the field, and document-too-large when the paths alone, each of which names all that it is in, have more than
    `max_bytes`.
    """
    patch = document(parsed)
    if "_id" in patch:
        try:
            same = id_text(patch["_id"]) == id_
        except InvalidId:
            same = False
        if not same:
            raise Problem("invalid-patch", "The _id of a document cannot change. Leave it out.", "_id")
        del patch["_id"]
    sets: dict[str, Any] = {}
    unsets: dict[str, Any] = {}
    size = 0
    for path, value in _changes(patch, ""):
        size += len(path)
        if size > max_bytes:
            raise Problem(
                "document-too-large",
                f"The paths of its fields have more than {max_bytes} characters. Use shorter names, or PUT.",
            )
        if value is None:
            unsets[path] = ""
        else:
            sets[path] = value
    update = {verb: paths for verb, paths in (("$set", sets), ("$unset", unsets)) if paths}
    if not update:
        raise Problem("invalid-patch", "It changes nothing. Name a field to set, or to remove with null.")
    return update


def _changes(patch: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Path and new value of each field; None for one to remove."""
    for name, value in patch.items():
        where = f"{path}{name}"
        if not name or "." in name:
            raise Problem(
                "invalid-patch",
                "A name in a patch must not be empty or hold a dot. Use PUT for this document.",
                where[:300] or '""',
            )
        if type(value) is dict:
            if not value:
                raise Problem(
                    "invalid-patch", "An empty object changes nothing inside another. Use PUT to store it.", where[:300]
                )
            yield from _changes(value, f"{where}.")
        else:
            yield where, value


def steps(base: bytes | None, patches: Sequence[bytes], id_: str) -> Iterator[dict[str, Any]]:
    """`base` (BSON) or, as an upsert would make it, a new document with this id; then the same after each of `patches`.

    An update that MongoDB would refuse changes nothing here either.
    """
    members: dict[str, Any] = {"_id": id_value(id_)} if base is None else decode(base)
    room = _MAX_PADDING
    yield members
    for patch in patches:
        update = _Update(members, room)
        with suppress(_Refused):
            update.run(decode(patch))
            members, room = update.members, update.room
        yield members


class _Refused(Exception):
    """MongoDB cannot create a field inside something that is neither an object nor an array, nor a larger document."""


class _Update:
    """One update on its way into a document. What it passes is copied, once: a refused one must leave no trace."""

    def __init__(self, members: dict[str, Any], room: int) -> None:
        """`room`: so many nulls may fill arrays up."""
        self.members = dict(members)
        self.room = room
        self._copies: dict[int, Any] = {}  # by id

    def run(self, update: dict[str, Any]) -> None:
        """Raises `_Refused`; `members` is worth nothing then."""
        for path, value in update.get("$set", {}).items():
            *way, last = path.split(".")
            self._set(self._reach(way, create=True), last, value)
        for path in update.get("$unset", {}):
            *way, last = path.split(".")
            holder = self._reach(way, create=False)
            if isinstance(holder, dict):
                holder.pop(last, None)
            elif isinstance(holder, list) and (index := _index(last)) is not None and index < len(holder):
                holder[index] = None  # MongoDB keeps the other positions

    def _reach(self, way: list[str], *, create: bool) -> Any:
        """The object or array that `way` leads to; None when there is none and none is to be made."""
        holder: Any = self.members
        for name in way:
            inner: Any = None
            if isinstance(holder, dict):
                inner = holder.get(name)
                missing = name not in holder
            else:
                index = _index(name)
                missing = index is None or index >= len(holder)
                inner = None if missing else holder[index]
            if missing and not create:
                return None
            if missing:
                inner = {}
            elif not isinstance(inner, dict | list):
                if create:
                    raise _Refused
                return None
            if id(inner) not in self._copies:
                inner = inner.copy()
                self._copies[id(inner)] = inner
                self._set(holder, name, inner)
            holder = inner
        return holder

    def _set(self, holder: Any, name: str, value: Any) -> None:
        if isinstance(holder, dict):
            holder[name] = value
            return
        index = _index(name)
        if index is None or index > _MAX_INDEX:
            raise _Refused
        padding = max(0, index + 1 - len(holder))
        self.room -= padding
        if self.room < 0:
            raise _Refused
        holder.extend([None] * padding)
        holder[index] = value


def _index(name: str) -> int | None:
    """What MongoDB takes for a position in an array."""
    return int(name) if _INDEX.fullmatch(name) else None

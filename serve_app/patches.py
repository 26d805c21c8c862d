"""A merge patch (RFC 7396) as one MongoDB update, and such updates applied to a document as MongoDB would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serve_app.documents import decode, document
from serve_app.errors import Problem
from serve_app.ids import InvalidId, id_text, id_value

_MAX_INDEX = 1_500_000  # MongoDB refuses to fill an array further than that with nulls


def update_of(parsed: Any, id_: str) -> dict[str, Any]:
    """The update document `{"$set": {path: value}, "$unset": {path: ""}}` that does what the parsed merge patch says.

    Nested objects become dotted paths, null removes, everything else replaces. Where RFC 7396 would replace a scalar by
    an object on the way, MongoDB refuses the update: it is then a dead letter. Raises `Problem` naming the field.
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
    _collect(patch, "", sets, unsets)
    update = {verb: paths for verb, paths in (("$set", sets), ("$unset", unsets)) if paths}
    if not update:
        raise Problem("invalid-patch", "It changes nothing. Name a field to set, or to remove with null.")
    return update


def apply(base: bytes | None, patches: Sequence[bytes], id_: str) -> dict[str, Any]:
    """The document after `patches` in order, on `base` (BSON) or, as an upsert would, on a new one with this id.

    An update that MongoDB would refuse changes nothing here either.
    """
    members: dict[str, Any] = {"_id": id_value(id_)} if base is None else decode(base)
    for patch in patches:
        try:
            members = _updated(members, decode(patch))
        except _Refused:
            continue
    return members


class _Refused(Exception):
    """MongoDB cannot create a field inside something that is neither an object nor an array."""


def _collect(patch: dict[str, Any], path: str, sets: dict[str, Any], unsets: dict[str, Any]) -> None:
    for name, value in patch.items():
        where = f"{path}{name}"
        if not name or "." in name:
            raise Problem(
                "invalid-patch",
                "A name in a patch must not be empty or hold a dot. Use PUT for this document.",
                where or '""',
            )
        if value is None:
            unsets[where] = ""
        elif type(value) is dict:
            if not value:
                raise Problem(
                    "invalid-patch", "An empty object changes nothing inside another. Use PUT to store it.", where
                )
            _collect(value, f"{where}.", sets, unsets)
        else:
            sets[where] = value


def _updated(members: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    members = dict(members)
    for path, value in update.get("$set", {}).items():
        *way, last = path.split(".")
        _set(_reach(members, way, create=True), last, value)
    for path in update.get("$unset", {}):
        *way, last = path.split(".")
        holder = _reach(members, way, create=False)
        if isinstance(holder, dict):
            holder.pop(last, None)
        elif isinstance(holder, list) and last.isdecimal() and int(last) < len(holder):
            holder[int(last)] = None  # MongoDB keeps the other positions
    return members


def _reach(members: dict[str, Any], way: list[str], *, create: bool) -> Any:
    """The object or array that `way` leads to. What it passes is copied: a refused update must leave no trace."""
    holder: Any = members
    for name in way:
        inner: Any = None
        if isinstance(holder, dict):
            inner = holder.get(name)
            missing = name not in holder
        else:
            missing = not (name.isdecimal() and int(name) < len(holder))
            inner = None if missing else holder[int(name)]
        if missing and not create:
            return None
        if missing:
            inner = {}
        elif isinstance(inner, dict | list):
            inner = inner.copy()
        elif create:
            raise _Refused
        else:
            return None
        _set(holder, name, inner)
        holder = inner
    return holder


def _set(holder: Any, name: str, value: Any) -> None:
    if isinstance(holder, dict):
        holder[name] = value
        return
    if not name.isdecimal() or int(name) > _MAX_INDEX:
        raise _Refused
    index = int(name)
    holder.extend([None] * (index + 1 - len(holder)))
    holder[index] = value

"""Strict JSON and MongoDB extended JSON into BSON, and back."""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode
from typing import Any, NoReturn

import bson
from bson import Int64, json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from serve_app.errors import Problem

MAX_DEPTH = 64  # MongoDB ends at 100; the rest is room for what updates wrap around a value
_MAX_PATH = 300  # characters; the whole of a long one, said again for all that it holds, would be gigabytes

# The types of extended JSON v2 and what stands inside them, less the deprecated ones and those that carry code.
_TYPES: dict[str, tuple[type, ...]] = {
    "$oid": (str,), "$date": (str, Int64), "$numberInt": (str,), "$numberLong": (str,), "$numberDouble": (str,),
    "$numberDecimal": (str,), "$binary": (dict,), "$uuid": (str,), "$timestamp": (dict,), "$regularExpression": (dict,),
    "$minKey": (int,), "$maxKey": (int,),
}  # fmt: skip
_NUMBER = re.compile(r"[0-9A-Za-z.+-]+")
_DATE = re.compile(r"[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}(\.[0-9]+)?(Z|[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?)")
_REGULAR_EXPRESSION_OPTIONS = re.compile("[ilmsux]*")  # BSON's
_OPTIONS = json_util.JSONOptions(
    json_mode=json_util.JSONMode.RELAXED, tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)
_INT64 = 1 << 63


class _Doubled:
    """An object with a name twice; kept in its place until the walk knows where that is."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:  # seconds of this process, were each looked for among all before it
            if name in seen:
                self.name = name
                return
            seen.add(name)


def _object(pairs: list[tuple[str, Any]]) -> Any:
    members = dict(pairs)
    return members if len(members) == len(pairs) else _Doubled(pairs)


class _Constant:
    """NaN, Infinity or -Infinity; likewise kept until its place is known."""

    def __init__(self, name: str) -> None:
        self.name = name


# The standard decoder and not orjson, which takes the last of two equal names without a word.
_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_Constant)


def parse(body: bytes) -> Any:
    """JSON as it stands; `document` judges what is in it. Raises `Problem` malformed-json or invalid-document."""
    try:
        return _DECODER.decode(body.decode())
    except UnicodeDecodeError as error:
        raise Problem("malformed-json", f"Byte {error.start} of the body is not UTF-8. Send UTF-8.") from None
    except RecursionError:
        raise Problem("invalid-document", f"It is nested deeper than {MAX_DEPTH} levels.") from None
    except ValueError as error:
        raise Problem("malformed-json", f"The body is not JSON: {str(error)[:200]}.") from None


def document(parsed: Any) -> dict[str, Any]:
    """The members of a parsed object, with extended JSON types as BSON values. Raises `Problem` naming the field."""
    if isinstance(parsed, _Doubled):
        _refuse_doubled(parsed, "")
    if not isinstance(parsed, dict):
        raise Problem("invalid-document", "It must be a JSON object.")
    return _members(parsed, "", 1)


def refuse_larger(parsed: Any, max_bytes: int) -> None:
    """Raises `Problem` document-too-large when the number of its values alone says that `encode` will.

    Nothing that fits is refused. It takes a fraction of the time of `document`, in which nobody else is answered.
    Counted is the least they become. An array has 5 bytes and 2 for each item, an empty object 5; a member of another
    object counts as 1, because it may belong to an extended JSON type, of which BSON keeps less.
    """
    left = max_bytes
    holders = [parsed] if type(parsed) in (dict, list) else []
    while holders:
        holder = holders.pop()
        is_array = type(holder) is list
        left -= 5 + 2 * len(holder) if is_array else len(holder) or 5
        if left < 0:
            raise Problem("document-too-large", f"At most {max_bytes} bytes as BSON are taken; it has more values.")
        holders += [item for item in (holder if is_array else holder.values()) if type(item) in (dict, list)]


def encode(members: dict[str, Any], max_bytes: int) -> bytes:
    """BSON. Raises `Problem` document-too-large."""
    try:
        body = bson.encode(members, codec_options=CODEC)
    except (BSONError, ValueError, OverflowError, TypeError, AttributeError) as error:
        raise Problem("invalid-document", f"It cannot be written as BSON: {str(error)[:200]}.") from None
    if len(body) > max_bytes:
        raise Problem("document-too-large", f"It has {len(body)} bytes as BSON; at most {max_bytes} are taken.")
    return body


def decode(body: bytes) -> dict[str, Any]:
    return bson.decode(body, CODEC)


def relaxed(members: dict[str, Any]) -> bytes:
    """Relaxed extended JSON."""
    return json_util.dumps(members, json_options=_OPTIONS, separators=(",", ":")).encode()


def _members(members: dict[str, Any], path: str, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise Problem("invalid-document", f"It is nested deeper than {MAX_DEPTH} levels.", path[:200])
    for name, value in members.items():
        if name[:1] == "$":
            raise Problem("invalid-document", f"{name[:80]!r} begins with $. Rename it.", _join(path, name))
        if "\0" in name or (not name.isascii() and not _encodable(name)):
            raise Problem("invalid-document", "A name must be valid Unicode without NUL. Rename it.", _join(path, name))
        kind = type(value)
        if (kind is str and value.isascii()) or value is None or kind is bool:
            continue
        members[name] = _value(value, path, name, depth)
    return members


def _value(value: Any, path: str, name: str, depth: int) -> Any:
    kind = type(value)
    if kind is str:
        if not _encodable(value):
            raise Problem(
                "invalid-document", "It holds half of a surrogate pair, which is not Unicode.", _join(path, name)
            )
    elif kind is int:
        if not -_INT64 <= value < _INT64:
            raise Problem("invalid-document", "An integer has at most 64 bits. Send it as a string.", _join(path, name))
    elif kind is float:
        if not math.isfinite(value):
            raise Problem("invalid-document", "The number is too large for 64 bits.", _join(path, name))
    elif kind is dict:
        if any(inner[:1] == "$" for inner in value):
            return _extended(value, _join(path, name), depth + 1)
        return _members(value, _join(path, name), depth + 1)
    elif kind is list:
        if depth >= MAX_DEPTH:
            raise Problem("invalid-document", f"It is nested deeper than {MAX_DEPTH} levels.", _join(path, name)[:200])
        inside = _join(path, name)
        for i, item in enumerate(value):
            kind = type(item)
            if not ((kind is str and item.isascii()) or item is None or kind is bool):
                value[i] = _value(item, inside, f"[{i}]", depth + 1)
    elif kind is _Doubled:
        _refuse_doubled(value, _join(path, name))
    elif kind is _Constant:
        raise Problem("malformed-json", f"{value.name} is not JSON. Send null or leave it out.", _join(path, name))
    return value


def _extended(value: dict[str, Any], path: str, depth: int) -> Any:
    """A type of extended JSON. The inside is checked like a document, so a number or a string in it is a sound one."""
    name = next(name for name in value if name[:1] == "$")
    if name not in _TYPES or len(value) != 1:
        raise Problem(
            "invalid-document",
            f"{name[:80]!r} begins with $ and is no extended JSON type taken here.",
            _join(path, name),
        )
    inner = _value(value[name], path, name, depth)
    try:
        _check_form(name, inner)
        converted = json_util.object_hook({name: inner}, _OPTIONS)
        if type(converted) is dict:
            raise ValueError("it is not in the form of its type")
        bson.encode({"": converted}, codec_options=CODEC)
    except (Problem, RecursionError):
        raise
    except Exception as error:  # the parsers below raise whatever their input happens to hit
        raise Problem(
            "invalid-document", f"This {name} is not valid: {str(error)[:200] or type(error).__name__}.", path
        ) from None
    return converted


def _check_form(name: str, inner: Any) -> None:
    """Refuses what bson's own parser lets pass, or takes for something else. Raises `ValueError`."""
    if type(inner) not in _TYPES[name]:
        raise ValueError("it is not in the form of its type")
    if name.startswith("$number") and not _NUMBER.fullmatch(inner):  # Python takes 1_000 and blanks for numbers
        raise ValueError("it is not a number")
    if name == "$numberInt" and not -(1 << 31) <= int(inner) < 1 << 31:
        raise ValueError("it has more than 32 bits")
    if name == "$numberDouble" and math.isinf(float(inner)) and re.search("[0-9]", inner):
        raise ValueError("it is too large for 64 bits")
    if name == "$numberDecimal" and "snan" in inner.lower():
        raise ValueError("a signalling NaN would be read back as NaN; send that")
    if name == "$date" and type(inner) is str and not _DATE.fullmatch(inner):
        raise ValueError("a time is written as in 2026-01-31T08:30:00Z, with its Z or an offset such as +01:00")
    if name == "$timestamp" and any(type(part) is bool for part in inner.values()):
        raise ValueError("t and i are integers")
    if name == "$regularExpression" and not _REGULAR_EXPRESSION_OPTIONS.fullmatch(inner["options"]):
        raise ValueError("its options are some of i, l, m, s, u and x")
    if name == "$binary":
        b64decode(inner["base64"], validate=True)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_doubled(value: _Doubled, path: str) -> NoReturn:
    raise Problem(
        "malformed-json",
        f"The name {value.name[:80]!r} stands twice in one object. Send it once.",
        _join(path, value.name),
    )


def _join(path: str, name: str) -> str:
    """Where a field is, for people: `a.b[2].c`, cut when it is long."""
    if len(path) >= _MAX_PATH:
        return path
    name = name[:_MAX_PATH]
    return path + name if not path or name[:1] == "[" else f"{path}.{name}"

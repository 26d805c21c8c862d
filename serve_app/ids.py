"""Ids that we make, and the one-to-one mapping between a document's `_id` and its text.

A string is its own text. Anything else is the text of its canonical extended JSON, which begins with "{";
so strings that begin with "{" are refused.
"""

from __future__ import annotations

import json
import os
import re
import time
from hashlib import blake2b
from typing import Any

from bson import ObjectId

from actors.core.document import MAX_ID_BYTES

MAX_ID_CHARACTERS = MAX_ID_BYTES // 4  # whatever the script, they fit
RESERVED_ID = "batch"  # POST .../batch is a route, so no document can live there
# Regular expressions for the documentation. U+FFFD is what servers put for bytes of a path that are not UTF-8: a
# document under such an id could not be told from others.
TEXT_ID = rf"(?!{RESERVED_ID}$)[^\x00-\x1f\x7f\ufffd{{][^\x00-\x1f\x7f\ufffd]*"
_OTHER_ID = r'\{"\$oid":"[0-9A-Fa-f]{24}"\}|\{"\$numberInt":"-?[0-9]{1,9}"\}|\{"\$numberLong":"-?[0-9]{1,18}"\}'
ID_PATTERN = f"^({TEXT_ID}|{_OTHER_ID})$"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # a receipt separates its parts by one of them
_INT32, _INT64 = 1 << 31, 1 << 63
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}  # its two high bits are RFC 9562's

Id = str | int | ObjectId

_last_tick = 0


class InvalidId(ValueError):
    """The text says what an id may be."""


def uuid7() -> str:
    """A UUIDv7 (RFC 9562), greater than every one made before in this process."""
    return uuid7s(1)[0]


def uuid7s(count: int) -> list[str]:
    """`count` UUIDv7, ascending, each greater than every one made before in this process. The tick is 1/4096 ms of wall
    clock.

    The 62 random bits come from the kernel each time, so that two processes forked from one never agree.
    """
    global _last_tick
    first = max(time.time_ns() * 4096 // 1_000_000, _last_tick + 1)
    _last_tick = first + count - 1
    low = os.urandom(8 * count).hex()
    return [
        f"{tick >> 28:08x}-{tick >> 12 & 0xFFFF:04x}-7{tick & 0xFFF:03x}"
        f"-{_VARIANT[low[at]]}{low[at + 1 : at + 4]}-{low[at + 4 : at + 16]}"
        for tick, at in zip(range(first, first + count), range(0, 16 * count, 16), strict=True)
    ]


def keyed_id(key: str, fingerprint: str, index: int) -> str:
    """The id of the `index`-th document of a request under an Idempotency-Key: a UUIDv8, the same each time.

    The body's fingerprint is part of it: when the key has been forgotten and comes again with another body,
    the new document must not be taken for a copy of the old one.
    """
    number = int.from_bytes(blake2b(f"{key}\0{fingerprint}\0{index}".encode(), digest_size=16).digest(), "big")
    number = number & ~(0xF << 76) & ~(0x3 << 62) | 0x8 << 76 | 0x2 << 62
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def id_text(value: Any) -> str:
    """The text of an `_id`. Raises `InvalidId`."""
    if isinstance(value, str):
        return _checked(value)
    if isinstance(value, ObjectId):
        return f'{{"$oid":"{value}"}}'
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 5.0 and 5 are one number in JSON, and one `_id` for MongoDB
    if isinstance(value, int) and not isinstance(value, bool) and -_INT64 <= value < _INT64:
        # 5 is one `_id` for MongoDB, in 32 bits or in 64, so it has one text.
        return f'{{"$numberInt":"{value}"}}' if -_INT32 <= value < _INT32 else f'{{"$numberLong":"{value}"}}'
    raise InvalidId('must be a string, an integer of 64 bits or {"$oid": "..."}')


def id_value(text: str) -> Id:
    """The `_id` that `text` stands for. Raises `InvalidId`; `id_text(id_value(text))` is the one text of that id."""
    if not text.startswith("{"):
        return _checked(text)
    try:
        ((name, inner),) = json.loads(text).items()
        if name == "$oid" and isinstance(inner, str):
            return ObjectId(inner)
        if name in ("$numberInt", "$numberLong") and isinstance(inner, str) and re.fullmatch(r"-?[0-9]{1,19}", inner):
            value = int(inner)
            bound = _INT32 if name == "$numberInt" else _INT64
            if -bound <= value < bound:
                return value
    except (ValueError, TypeError, AttributeError, RecursionError):  # bson's InvalidId is none of them
        pass
    except Exception as error:
        raise InvalidId("is no ObjectId: 24 hexadecimal digits") from error
    raise InvalidId('begins with "{" but is not {"$oid": "..."}, {"$numberInt": "..."} or {"$numberLong": "..."}')


def _checked(text: str) -> str:
    if not text or text.startswith("{") or text == RESERVED_ID:
        raise InvalidId(f'as a string must not be empty, begin with "{{" or be "{RESERVED_ID}"')
    if _CONTROL.search(text):
        raise InvalidId("must not hold control characters")
    if "\ufffd" in text:
        raise InvalidId("must not hold U+FFFD, which stands for bytes that are not UTF-8. Percent-encode UTF-8")
    if len(text) > MAX_ID_CHARACTERS:
        raise InvalidId(f"must not be longer than {MAX_ID_CHARACTERS} characters")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidId("must be valid Unicode") from None
    return text

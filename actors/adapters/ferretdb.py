"""What FerretDB 1.24 does unlike MongoDB, as far as writes can be lost or stuck through it; each has a contract test.

- An `update` with several updates ends at the first error, undoes the others, and calls the error's index 0.
- A duplicate key does not say which index it violates.
- An `update` keeps a connection to SQLite for each document it finds, out of 100: the collection then hangs for ever.
- A value it cannot store may make it close the connection instead of answering.
"""

from __future__ import annotations

import math
from typing import Any

import bson
from bson import Decimal128, MaxKey, MinKey
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

UPDATES_AT_ONCE = 80  # in all commands under way together; the rest is for reads
INDEXES_HOLD_S = 10.0  # how long it is believed that a collection has no other unique index

_CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO, unicode_decode_error_handler="replace"
)


def unstorable(body: bytes) -> str | None:
    """What in `body` FerretDB does not survive; None when there is nothing."""
    try:
        return _in(bson.decode(body, _CODEC)) if body else None
    except BSONError as error:
        return str(error)


def has_other_unique_index(indexes: list[dict[str, Any]]) -> bool:
    return any(index.get("unique") and list(index["key"]) != ["_id"] for index in indexes)


def _in(value: Any) -> str | None:
    if isinstance(value, dict):
        return next((found for inner in value.values() if (found := _in(inner))), None)
    if isinstance(value, list):
        return next((found for inner in value if (found := _in(inner))), None)
    if isinstance(value, Decimal128 | MinKey | MaxKey):
        return f"FerretDB cannot store a {type(value).__name__}"
    if isinstance(value, float) and math.isnan(value):
        return "FerretDB cannot store NaN"
    return None

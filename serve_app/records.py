"""The documents that GET /api/data writes."""

from __future__ import annotations

import random
import string
import struct
from collections.abc import Sequence

from actors.core.document import Kind, Write

WRITES = 5
PAYLOAD_CHARACTERS = 512

_ALPHABET = (string.ascii_letters + string.digits).encode()
_FAIR = 256 - 256 % len(_ALPHABET)  # bytes from here on would favour some characters
_TABLE = bytes(_ALPHABET[i % len(_ALPHABET)] for i in range(256))
_UNFAIR = bytes(range(_FAIR, 256))
_SURPLUS = 1.1  # 1/32 of the random bytes is thrown away; this leaves eight standard deviations
_ID_CHARACTERS = 36


def _text(name: bytes, size: int) -> bytes:
    return b"\x02" + name + b"\0" + struct.pack("<i", size + 1)


# A document of these five fields has one size, so BSON is a few constants with the variable parts in between.
_AFTER_ID = [
    b"\0"
    + _text(b"type", 5)
    + b"write\0"
    + b"\x10index\0"
    + struct.pack("<i", i)
    + _text(b"payload", PAYLOAD_CHARACTERS)
    for i in range(WRITES)
]
_BEFORE_ID = _text(b"_id", _ID_CHARACTERS)
_BEFORE_TIME = b"\0\x09timestamp\0"
_SIZE = 4 + len(_BEFORE_ID) + _ID_CHARACTERS + len(_AFTER_ID[0]) + PAYLOAD_CHARACTERS + len(_BEFORE_TIME) + 8 + 1
_HEAD = struct.pack("<i", _SIZE) + _BEFORE_ID


def random_characters(count: int) -> bytes:
    """`count` letters and digits, each as likely as any other. Not secret."""
    characters = b""
    while len(characters) < count:
        characters += random.randbytes(int(count * _SURPLUS)).translate(_TABLE, _UNFAIR)  # noqa: S311
    return characters[:count]


def records(namespace: str, ids: Sequence[str], now_ms: int) -> list[Write]:
    """One insert per id, each a UUID text; at most `WRITES`. `now_ms` is wall clock."""
    characters = random_characters(PAYLOAD_CHARACTERS * len(ids))
    tail = _BEFORE_TIME + now_ms.to_bytes(8, "little", signed=True) + b"\0"
    writes, at = [], 0
    for id_, after_id in zip(ids, _AFTER_ID[: len(ids)], strict=True):
        payload = characters[at : at + PAYLOAD_CHARACTERS]
        writes.append(Write(Kind.INSERT, namespace, id_, b"".join((_HEAD, id_.encode(), after_id, payload, tail))))
        at += PAYLOAD_CHARACTERS
    return writes

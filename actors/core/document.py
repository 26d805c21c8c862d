"""A write, what it is addressed to, and the bytes it travels as.

Frame (little endian), one per write, one after the other in a payload:

    u8 kind | u8 namespace bytes | u16 id bytes | u32 body bytes | namespace | id | body

The body is BSON, encoded once at the edge; nobody decodes it again before MongoDB does.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

_HEADER = struct.Struct("<BBHI")

MAX_NAMESPACE_BYTES = 255
MAX_ID_BYTES = 1024


class Kind(IntEnum):
    """What is asked of the document; the numbers are on disk and never change their meaning."""

    INSERT = 0  # a new document under an id of ours, so it can only meet a copy of itself
    PUT = 1  # this document, whatever was there
    PATCH = 2  # these fields, on top of whatever was there (body: a MongoDB update document)
    DELETE = 3  # nothing under this id


class Key(NamedTuple):
    """The document a write is about. Order is promised per key, and only per key."""

    namespace: str  # "database.collection"
    id: str  # text; extended JSON ({"$oid": ...}) where the `_id` is not a string


class Write(NamedTuple):
    """One accepted change. Applying it twice equals applying it once, whatever its kind."""

    kind: int
    namespace: str
    id: str
    body: bytes  # BSON; empty for DELETE

    @property
    def key(self) -> Key:
        return Key(self.namespace, self.id)


class MalformedPayload(ValueError):
    """A payload is not a sequence of whole frames: it was not written by this code."""


def encode_writes(writes: Sequence[Write]) -> bytes:
    """Frames of `writes`, in order. Raises `ValueError` when a namespace or id is too long for its length field."""
    parts: list[bytes] = []
    for kind, namespace, id_, body in writes:
        name, ident = namespace.encode(), id_.encode()
        if len(name) > MAX_NAMESPACE_BYTES or len(ident) > MAX_ID_BYTES:
            raise ValueError(f"namespace over {MAX_NAMESPACE_BYTES} bytes or id over {MAX_ID_BYTES} bytes")
        parts += (_HEADER.pack(kind, len(name), len(ident), len(body)), name, ident, body)
    return b"".join(parts)


def decode_writes(payload: bytes) -> list[Write]:
    """The inverse of `encode_writes`, for any concatenation of its results. Raises `MalformedPayload`."""
    writes: list[Write] = []
    at, end = 0, len(payload)
    while at < end:
        if at + _HEADER.size > end:
            raise MalformedPayload(f"header cut off at byte {at} of {end}")
        kind, name_size, id_size, body_size = _HEADER.unpack_from(payload, at)
        name_at = at + _HEADER.size
        id_at = name_at + name_size
        body_at = id_at + id_size
        at = body_at + body_size
        if at > end:
            raise MalformedPayload(f"frame cut off: needs {at} bytes, has {end}")
        if kind > Kind.DELETE:
            raise MalformedPayload(f"no kind of write has the number {kind}")
        try:
            namespace, id_ = payload[name_at:id_at].decode(), payload[id_at:body_at].decode()
        except UnicodeDecodeError as error:
            raise MalformedPayload(f"namespace or id before byte {body_at} is not UTF-8") from error
        writes.append(Write(kind, namespace, id_, payload[body_at:at]))
    return writes

"""Which buffer owns a key, and what its stream is called."""

from __future__ import annotations

import re
from hashlib import blake2b

from actors.core.document import Key

_STREAM = re.compile("([0-9]+)of([0-9]+)")  # int() by itself takes a sign, blanks and _ too


def shard_of(key: Key, shards: int) -> int:
    """The owner of `key` among `shards` buffers: the same in every process, evenly spread.

    blake2b and not crc32, which puts similar short keys on one shard; and not `hash`, which differs per process.
    """
    if shards == 1:
        return 0
    digest = blake2b(f"{key.namespace}\0{key.id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % shards


def stream_of(index: int, shards: int) -> str:
    """The stream of buffer `index` in a pool of `shards`. It carries the size: another size is another set of
    streams."""
    return f"{index}of{shards}"


def pool_of(stream: str) -> int:
    """The size of the pool that it belongs to. Raises `ValueError` for what is no stream."""
    return _numbers(stream)[1]


def heir_of(stream: str, shards: int) -> int:
    """The buffer that empties the stream of an earlier pool size before the pool of `shards` flushes anything; of one
    of that pool its own. Raises `ValueError` for what is no stream."""
    return _numbers(stream)[0] % shards


def _numbers(stream: str) -> tuple[int, int]:
    found = _STREAM.fullmatch(stream)
    if found is None:
        raise ValueError(f"{stream!r} is no stream's name")
    return int(found[1]), int(found[2])

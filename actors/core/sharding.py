"""Which buffer owns a key."""

from __future__ import annotations

from hashlib import blake2b

from actors.core.document import Key


def shard_of(key: Key, shards: int) -> int:
    """The owner of `key` among `shards` buffers: the same in every process, evenly spread.

    blake2b and not crc32, which puts similar short keys on one shard; and not `hash`, which differs per process.
    """
    if shards == 1:
        return 0
    digest = blake2b(f"{key.namespace}\0{key.id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % shards


def heir_of(stream_index: int, shards: int) -> int:
    """The buffer that empties stream `stream_index` of an earlier pool size before the pool of `shards` flushes
    anything."""
    return stream_index % shards

"""How much memory the settings may make Redis need: arithmetic, so that its limit is checked before it is met.

A full Redis refuses appends with an error of its own, long after our bounds should have said 503 with a time to wait.
"""

from __future__ import annotations

from actors.adapters.redis_cache import MAX_DOCUMENT_BYTES
from cluster.settings import MIB, Settings

SHARE = 0.75  # of Redis' limit that our bounds may fill; the rest is for dead letters, rewrites and connections
_ENTRY_BYTES = 200  # a stream's own share of an entry with one write, the worst case
_SLACK = 1.25  # of the allocator, on large values
_KEY_BYTES = 300  # an idempotency record with its name and its end
_CACHED_BYTES = MAX_DOCUMENT_BYTES + 200  # the largest document that is cached, with its name and its end


def needed_bytes(settings: Settings) -> int:
    """What Redis holds when every bound of `settings` is reached at once."""
    log = _SLACK * settings.max_queue_bytes + _ENTRY_BYTES * settings.max_queue_size
    keys = _KEY_BYTES * settings.idempotency_max_keys
    caches = _CACHED_BYTES * settings.cache_max_entries * settings.buffers if settings.cache_ttl_s else 0
    return int(log + keys + caches)


def least_maxmemory_bytes(settings: Settings) -> int:
    """The smallest `maxmemory` that leaves the room that `SHARE` asks for."""
    return int(needed_bytes(settings) / SHARE)


def shortage(settings: Settings, maxmemory_bytes: int) -> str:
    """What is wrong with a Redis of this limit (0: none) under these settings, and what to do; empty when nothing."""
    least = least_maxmemory_bytes(settings)
    if maxmemory_bytes == 0 or maxmemory_bytes >= least:
        return ""
    return (
        f"maxmemory is {maxmemory_bytes // MIB} MiB, and the bounds of the settings may need {least // MIB} MiB: "
        f"redis-cli CONFIG SET maxmemory {least}; or lower max_queue_bytes, idempotency_max_keys or cache_max_entries"
    )

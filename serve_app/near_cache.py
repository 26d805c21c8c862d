"""Documents that this replica read a moment ago."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from actors.core.document import Key

_SLOTS = 1024
_MAX_DOCUMENT_BYTES = 8 * 1024  # 80 MiB with the 10,000 entries of `near_cache_max_entries`; larger ones are asked for


class NearCache:
    """Least recently used goes first; nothing is served after `ttl_s`. Time is an argument (monotonic seconds).

    A write through this replica evicts its key. A read that began before that eviction may still arrive after it:
    `put` compares the `mark` taken before the read with the last eviction of that key and drops what is too old.
    Writes through other replicas are seen when the time is up, not earlier.
    """

    def __init__(self, ttl_s: float, max_entries: int) -> None:
        """A `ttl_s` or `max_entries` of 0 switches it off."""
        self._ttl_s = ttl_s
        self._max_entries = max_entries if ttl_s > 0 else 0
        self._entries: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()
        self._evictions = 0
        self._last_eviction = [0] * _SLOTS  # by hash of the key: bounded, and a collision only costs one put

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now: float) -> bytes | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= now:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def lacks(self, namespace: str, ids: Sequence[str], now: float) -> list[str]:
        """Those of `ids` that `get` would not find. To look is no use: it makes none of them younger."""
        entries = self._entries
        return [id_ for id_ in ids if (entry := entries.get((namespace, id_))) is None or entry[0] <= now]

    def mark(self) -> int:
        """To be taken before a read and handed to `put` with its result."""
        return self._evictions

    def put(self, key: Key, document: bytes, now: float, mark: int) -> None:
        if self._max_entries == 0 or len(document) > _MAX_DOCUMENT_BYTES:
            return
        if self._last_eviction[hash(key) % _SLOTS] > mark:
            return
        self._entries[key] = (now + self._ttl_s, document)
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)

    def evict(self, key: Key) -> None:
        self._evictions += 1
        self._last_eviction[hash(key) % _SLOTS] = self._evictions
        self._entries.pop(key, None)

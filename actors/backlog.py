"""Backlog: the entries of one stream that no Report has named yet, in memory."""

from __future__ import annotations

from collections import Counter, deque
from itertools import islice

from actors.core.batching import BatchPolicy, Entry
from actors.core.document import Key, Write
from actors.core.position import NOTHING, order


class Backlog:
    """A mirror of the log from the oldest unacknowledged entry on, so that flushing never reads the log.

    Entries come in at the end, are resolved from the front, and stay until the log has forgotten them too:
    a write can be read here until MongoDB has it and no cache holds what it replaced.
    """

    def __init__(self) -> None:
        self.writes = 0
        self.bytes = 0
        self.open_writes = 0  # not yet resolved
        self.open_bytes = 0
        self.last_position = NOTHING  # the newest position seen, also of entries that are gone
        self._entries: deque[Entry] = deque()
        self._resolved = 0  # how many of them, from the front, are resolved
        # A Key, as a plain tuple: cheaper. So is the write itself instead of a list of one, which nearly all are.
        self._by_key: dict[tuple[str, str], Write | list[Write]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self.last_position = entry.position
        self.writes += len(entry.writes)
        self.bytes += entry.bytes
        self.open_writes += len(entry.writes)
        self.open_bytes += entry.bytes
        for write in entry.writes:
            known = self._by_key.setdefault(write[1:3], write)
            if isinstance(known, list):
                known.append(write)
            elif known is not write:
                self._by_key[write[1:3]] = [known, write]

    @property
    def oldest(self) -> Entry | None:
        """The oldest entry that is not resolved."""
        return self._entries[self._resolved] if len(self._entries) > self._resolved else None

    @property
    def before_first(self) -> str:
        """A position behind which nothing has happened that this backlog does not know."""
        if not self._entries:
            return self.last_position
        milliseconds, sequence = order(self._entries[0].position)
        return f"{milliseconds}-{sequence - 1}" if sequence else f"{milliseconds - 1}-{(1 << 63) - 1}"

    def batch(self, policy: BatchPolicy) -> list[Entry]:
        """The next entries to flush, oldest first; they stay here."""
        batch: list[Entry] = []
        writes = size = 0
        for entry in islice(self._entries, self._resolved, None):
            if not policy.fits(writes, size, entry):
                break
            batch.append(entry)
            writes, size = writes + len(entry.writes), size + entry.bytes
        return batch

    def resolve(self, entries: list[Entry]) -> None:
        """The first open entries, exactly these, have been named by a Report."""
        self._resolved += len(entries)
        self.open_writes -= sum(len(entry.writes) for entry in entries)
        self.open_bytes -= sum(entry.bytes for entry in entries)

    def forget(self, count: int) -> None:
        """The log has forgotten the first `count` entries, all of them resolved."""
        gone: Counter[tuple[str, str]] = Counter()
        for _ in range(count):
            entry = self._entries.popleft()
            self._resolved -= 1
            self.writes -= len(entry.writes)
            self.bytes -= entry.bytes
            gone.update(write[1:3] for write in entry.writes)
        for key, number in gone.items():
            known = self._by_key[key]
            if isinstance(known, list) and len(known) > number:
                del known[:number]  # in one go: it moves all that are behind, and of one document that may be a million
            else:
                del self._by_key[key]

    def pending(self, key: Key) -> list[Write]:
        """Writes to `key` still here, oldest first."""
        known = self._by_key.get(key, [])
        return known if isinstance(known, list) else [known]

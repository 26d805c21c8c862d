"""Lookup: a document as the writes still in a buffer, the shared cache and MongoDB together make it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from actors.backlog import Backlog
from actors.core.batching import Entry
from actors.core.document import Key, Kind, Write
from actors.core.errors import AnswerTooLarge, BufferUnavailable, DatabaseUnavailable, SpillwayError
from actors.core.intake import Found
from actors.core.ports import BatchSink, Cache

_MOST_PENDING = 10_000  # writes to put together for a reader: that takes a tenth of a second, in all

ANSWER_BYTES = 60 * 1024 * 1024  # a channel carries 64 MiB, and to find out by packing it would take as much again

_NOTHING = Found(None, [], "buffer")

# A document as an older tier has it, and which tier; or why it is not known.
_Base = tuple[bytes | None, str] | SpillwayError


@dataclass(slots=True, eq=False)
class _Reading:
    keys: set[tuple[str, str]] | None  # None: any
    # Of keys some of whose writes left the backlog since: all that were there before, in order, each by its identity.
    left: dict[tuple[str, str], dict[int, Write]] = field(default_factory=dict)


class Lookup:
    """Every read sees every write acknowledged before it began. MongoDB's answers are cached until a write changes
    them."""

    def __init__(self, backlog: Backlog, sink: BatchSink, cache: Cache, *, older_poured: bool) -> None:
        """`older_poured`: no other stream holds older writes to our keys. One that does knows more than MongoDB, and
        its writes drop nothing from our cache."""
        self._backlog = backlog
        self._sink = sink
        self._cache = cache
        self._older_poured = older_poured
        self._reading: set[_Reading] = set()  # reads under way, so that a drop can tell which of them it overtakes
        self._cache_turn = asyncio.Lock()

    async def near(self, namespace: str, ids: Sequence[str]) -> list[Found | SpillwayError | None]:
        """What the backlog and the shared cache tell, in the order asked; None where MongoDB has to be asked, and
        `AnswerTooLarge` as `read`."""
        with self._watched(namespace, ids) as reading:
            found = _what_fits(await self._read(namespace, ids, self._cached_ones, reading))
        return [found.get(id_) for id_ in ids]

    async def read(self, namespace: str, ids: Sequence[str]) -> list[Found | SpillwayError]:
        """In the order asked; of each that cannot be told just now the reason, as `BatchSink.find` raises it. With
        `AnswerTooLarge` it is to be asked for again without those that are told; alone it can never be told."""
        with self._watched(namespace, ids) as reading:
            found = _what_fits(await self._read(namespace, ids, partial(self._fetch, reading=reading), reading))
        return [found[id_] for id_ in ids]

    async def _read(
        self,
        namespace: str,
        ids: Sequence[str],
        fetch: Callable[[str, list[str]], Awaitable[dict[str, _Base]]],
        reading: _Reading,
    ) -> dict[str, Found | SpillwayError]:
        """Those of `ids` that the backlog alone can tell, or on top of what `fetch` gives.

        The base may be from before or behind any write of the meantime. So all of them go on top, also those that have
        left; one that it has already changes nothing, as the later ones follow it again.
        """
        overlays = {id_: _overlay(self._writes(Key(namespace, id_), reading)) for id_ in dict.fromkeys(ids)}
        found = {id_: one for id_, one in overlays.items() if one is not None}
        wanted = [id_ for id_, one in overlays.items() if one is None]
        for id_, base in (await fetch(namespace, wanted)).items() if wanted else ():
            writes = self._writes(Key(namespace, id_), reading)  # those that have come in meanwhile as well
            patches = [write.body for write in writes if write.kind == Kind.PATCH]
            found[id_] = _overlay(writes) or (
                base if isinstance(base, SpillwayError) else Found(base[0], patches, base[1])
            )
        return found

    def _writes(self, key: Key, reading: _Reading) -> list[Write]:
        """All to `key` that were in the backlog at any time since this read began, oldest first."""
        pending = self._backlog.pending(key)
        left = reading.left.get(key)
        return list((left | {id(write): write for write in pending}).values()) if left else pending

    async def sample(self, namespace: str, limit: int, owns: Callable[[Key], bool]) -> list[tuple[str, bytes]]:
        """Documents that MongoDB holds and of which `owns` is true, at most `limit`. Raises as `read`."""
        may_cache = self._older_poured  # what is asked before that may be older than what is poured meanwhile
        with self._watched(namespace, None) as reading:
            sample = await self._sink.sample(namespace, limit)
            found = [(id_, body) for id_, body in sample if owns(Key(namespace, id_))]
            if may_cache:
                await self._remember(namespace, dict(found), reading)
        return found

    def older_are_poured(self) -> None:
        """The streams of other pools are empty, for good."""
        self._older_poured = True

    def leaving(self, entries: list[Entry]) -> None:
        """These leave the backlog now: whoever is reading takes along what they say of its documents."""
        if not self._reading:
            return
        keys = {write[1:3] for entry in entries for write in entry.writes}
        for reading in self._reading:
            for key in keys if reading.keys is None else reading.keys & keys:
                left = reading.left.setdefault(key, {})
                if reading.keys is not None:  # whoever reads any only has to know of which
                    left.update((id(write), write) for write in self._backlog.pending(Key(*key)))

    async def drop(self, keys: list[tuple[str, str]]) -> None:
        """Forget cached copies of `keys`. Raises `LogUnavailable`."""
        async with self._cache_turn:
            await self._cache.drop([_cache_key(*key) for key in keys])

    async def _fetch(self, namespace: str, ids: list[str], reading: _Reading) -> dict[str, _Base]:
        """All of `ids`, from the shared cache and MongoDB."""
        if not self._older_poured:
            return dict.fromkeys(ids, BufferUnavailable("what a pool of another size has left is still poured", 1.0))
        result = await self._cached_ones(namespace, ids)
        missing = [id_ for id_ in ids if id_ not in result]
        if not missing:
            return result
        try:
            documents = dict(zip(missing, await self._sink.find(namespace, missing), strict=True))
        except SpillwayError as error:
            return result | dict.fromkeys(missing, error)
        await self._remember(namespace, {id_: one for id_, one in documents.items() if isinstance(one, bytes)}, reading)
        return result | {
            id_: one if isinstance(one, SpillwayError) else (one, "mongodb") for id_, one in documents.items()
        }

    async def _cached_ones(self, namespace: str, ids: list[str]) -> dict[str, _Base]:
        """Those of `ids` that the shared cache has."""
        cached = await self._cache.get([_cache_key(namespace, id_) for id_ in ids])
        return {id_: (document, "cache") for id_, document in zip(ids, cached, strict=True) if document is not None}

    async def _remember(self, namespace: str, documents: dict[str, bytes], reading: _Reading) -> None:
        """Put what was read from MongoDB into the shared cache, less what a write has changed in the meantime."""
        async with self._cache_turn:
            fresh = {
                _cache_key(namespace, id_): document
                for id_, document in documents.items()
                if (namespace, id_) not in reading.left and not self._backlog.pending(Key(namespace, id_))
            }
            await self._cache.put(fresh)

    @contextmanager
    def _watched(self, namespace: str, ids: Sequence[str] | None) -> Iterator[_Reading]:
        """Note for this read which writes to `ids` (None: to any) leave the backlog while it is under way."""
        reading = _Reading(None if ids is None else {(namespace, id_) for id_ in ids})
        self._reading.add(reading)
        try:
            yield reading
        finally:
            self._reading.discard(reading)


def _what_fits(found: dict[str, Found | SpillwayError]) -> dict[str, Found | SpillwayError]:
    """The first of them, up to what one answer carries; of the others that they did not fit."""
    room = ANSWER_BYTES
    told: dict[str, Found | SpillwayError] = {}
    for id_, one in found.items():
        size = 0 if isinstance(one, SpillwayError) else len(one.base or b"") + sum(map(len, one.patches))
        told[id_] = one if size <= room else AnswerTooLarge(f"with what waits for MongoDB it has {size} bytes", 1.0)
        room -= size if size <= room else 0
    return told


def _cache_key(namespace: str, id_: str) -> str:
    return f"{namespace}/{id_}"


def _overlay(writes: list[Write]) -> Found | SpillwayError | None:
    """The document as these writes alone tell it; None when older tiers have to be asked for a base."""
    newest = range(len(writes) - 1, max(-1, len(writes) - 1 - _MOST_PENDING), -1)  # more are refused anyway
    start = next((at for at in newest if writes[at].kind in (Kind.PUT, Kind.DELETE)), 0)
    if len(writes) - start > _MOST_PENDING:
        waiting = f"{len(writes) - start} changes of it wait for MongoDB"
        return DatabaseUnavailable(f"{waiting}; for a read at most {_MOST_PENDING} are put together", 5.0)
    found: Found | None = None
    patched = False  # on a base that only older tiers know
    for write in writes[start:] if start else writes:
        if write.kind == Kind.PATCH:
            patched = True
            if found is not None:
                found.patches.append(write.body)
        elif write.kind == Kind.INSERT and (patched if found is None else found != _NOTHING):
            continue  # a copy of what is there already
        else:
            found = Found(None if write.kind == Kind.DELETE else write.body, [], "buffer")
    return found

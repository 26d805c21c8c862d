"""What the services need from the outside, few verbs each. Each port has a real adapter and a shipped double."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from actors.core.arrivals import LaneCall
from actors.core.batching import Command
from actors.core.dead_letter import EVERY, DeadLetter, Page, Selection
from actors.core.document import MalformedPayload, Write, decode_writes
from actors.core.errors import AnswerTooLarge, unreadable
from actors.core.outcome import Report


class Keyed(NamedTuple):
    """A write under an Idempotency-Key: kept only if the key is new."""

    key: str  # digest of caller, collection and key
    fingerprint: str  # digest of the request and its writes
    payload: bytes  # frames of the request, see `document`


class KeyedAnswer(NamedTuple):
    """What became of one `Keyed`. `position` is that of the first time when `fresh` is false."""

    position: str  # "stream/position"; empty on conflict
    fresh: bool
    conflict: bool = False
    full: bool = False  # the key is new and there is no room for another record: nothing was kept


class Appended(NamedTuple):
    """Durable: fsynced by the log before this was returned."""

    position: str  # of the entry with the plain payload; empty when there was none
    keyed: list[KeyedAnswer]


class Logged(NamedTuple):
    """An entry as the log holds it."""

    position: str
    payload: bytes

    def writes(self, stream: str) -> list[Write]:
        """What `stream`, whose entry it is, keeps with it. Raises `LogUnavailable` when this version cannot read it."""
        try:
            return decode_writes(self.payload)
        except MalformedPayload as error:
            raise unreadable(stream, self.position, error) from error


class Resolved(NamedTuple):
    """How far a buffer's stream is resolved, and which writes were rejected on the way."""

    position: str
    complete_since: str  # for entries after this one `rejections` is complete; older ones have to be looked up
    rejections: dict[str, str]  # "position/offset" -> reason


class WriteLog(Protocol):
    """The durable log of one stream. One buffer owns it; from a newer owner's `open` on, nothing the old one asks for
    changes the stream."""

    @property
    def stream(self) -> str:
        """Name of the stream; with a position it names an entry in the whole service."""

    @property
    def epoch(self) -> int:
        """Of this owner; 0 before `open`. Every owner has a higher one than all before it."""

    @property
    def owner(self) -> str:
        """Name of this owner, which no other has."""

    async def open(self) -> int:
        """Become the owner; returns the new epoch. Raises `UnsafeLog`, `LogUnavailable`."""

    async def reopen(self) -> int:
        """Begin a new epoch of this same owner: an append that got no answer so far is kept by now, or never will be.

        Raises `Fenced` when another owner has taken over, `UnsafeLog`, `LogUnavailable`."""

    async def append(self, payload: bytes, keyed: Sequence[Keyed] = (), calls: Sequence[LaneCall] = ()) -> Appended:
        """Keep the payload (if not empty) as one entry and every new keyed one as an entry of its own, all or nothing;
        only a new key beyond the number that may be remembered is left out, and said to be. `calls`: whose writes are
        in the payload, in order.

        Returns when all of it is on disk. Raises `LogUnavailable` when surely nothing was kept, `OutcomeUnknown`
        when it may have been, `Fenced` when another owner has taken over."""

    def place(self, call: LaneCall) -> tuple[str, int] | None:
        """Where the plain writes of a call are, or were: the position of their entry, and which there is the first.

        None: not kept, as far as `open` and all that was appended and replayed since can tell. `("", 0)`: a later call
        of the lane is, so it has given this one up. Known for ten minutes, whatever is acknowledged or dies."""

    def replay(self, after: str | None = None) -> AsyncIterator[Logged]:
        """Entries not yet acknowledged, oldest first, from the start or after a position. Raises `LogUnavailable`."""

    async def acknowledge(self, position: str) -> None:
        """Forget every entry up to and including `position`. Doing it again does nothing.

        Raises `LogUnavailable`, `OutcomeUnknown`; `Fenced` when another owner has taken over, and then forgets nothing,
        however late it arrives.
        """

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Keep `letters` before their entries may be acknowledged. Each id is kept once, and none that arrives late:
        one whose entry has been acknowledged has been kept before, and maybe removed since."""

    async def last_position(self) -> str:
        """The newest position ever given out in this stream, acknowledged or not; "0-0" when there was none.
        Raises `LogUnavailable`."""

    async def ping(self) -> None:
        """Raises `LogUnavailable` when the log does not answer, within little more than a second, or could lose what it
        is given; and `Fenced` when it has another owner by now."""


class DeadLetters(Protocol):
    """The shelf of rejected writes, of all streams. Whoever reads or removes waits for its turn, so that few read at
    once: all of it but `add` raises `BufferUnavailable` when that does not come."""

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Each id is kept once, however often it is added. Raises `LogUnavailable`, `OutcomeUnknown`."""

    async def list(self, selection: Selection = EVERY, limit: int = 100, after: str = "") -> Page:
        """Oldest first: at most `limit` letters, a few MiB, and a few thousand looked at, whichever comes first.

        `after` is the `next` of the page before. Together the pages cover what was there when the first was asked for:
        letters that come meanwhile do not, or replaying what is rejected again would never end. `X_Y` are those behind
        X up to Y, each the `end` of a page, and `0-0_Y` all up to Y. Raises `LogUnavailable`.
        """

    async def get(self, id: str) -> DeadLetter | None:
        """None when it is not there, or not any more. Raises `LogUnavailable`."""

    async def remove(self, ids: Sequence[str]) -> int:
        """Forget them; returns how many were there. Raises `LogUnavailable`, `OutcomeUnknown`."""

    async def size(self) -> int:
        """Letters on the shelf. Raises `LogUnavailable`."""


class BatchSink(Protocol):
    """Where a buffer pours its batches."""

    async def write(self, commands: Sequence[Command]) -> list[Report]:
        """One report per command, one outcome per write. Commands of one call have one origin.

        Raises `WriterUnavailable`: then nothing is known of any of them; `Fenced`: their stream has a newer owner.
        """

    async def find(self, namespace: str, ids: Sequence[str]) -> list[bytes | AnswerTooLarge | None]:
        """Documents as BSON, in the order asked, None where there is none; `AnswerTooLarge` where it has to be asked
        for again, without those that were found, which never happens to all of them. Raises `DatabaseUnavailable`,
        `WriterUnavailable`."""

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
        """Some documents that MongoDB holds, with their ids. Raises as `find`."""


class DocumentStore(Protocol):
    """The database. Every call but `probe` is exactly one wire command, and none is ever repeated behind our back."""

    @property
    def find_limit(self) -> int:
        """Ids that one `find` may carry."""

    @property
    def update_limit(self) -> int:
        """Updates that one `store` may carry."""

    async def describe(self) -> None:
        """Learn what kind of server this is (one command); the limits hold from then on."""

    async def store(self, command: Command) -> Report:
        """Raises `CommandNotSent`, `CommandUnknown`, `CommandRefused`, `CommandFailed`; of the last `CommandTimedOut`
        when the server itself has ended it."""

    async def find(self, namespace: str, ids: Sequence[str]) -> dict[str, bytes | None]:
        """Documents by the ids as they were asked for. An id that is missing has none; one with None has to be asked
        again, because the answer was full, which never happens to all of them. Raises as `store`."""

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
        """Some documents with their ids, at most `limit`, cheaply found. Raises as `find`."""

    async def count(self, namespace: str) -> int:
        """Documents in the collection, by its metadata. Raises as `find`."""

    async def probe(self) -> None:
        """Does the server answer? A handshake, not counted as a command. Raises `CommandNotSent`."""

    async def close(self) -> None: ...


class Grant(NamedTuple):
    """The right to write."""

    epoch: int
    under_way_s: float  # so long what holders before sent may be executed yet; 0: the last one gave it back


class Lease(Protocol):
    """The right to be the one writer, held by time and fenced by an epoch."""

    @property
    def ttl_s(self) -> float: ...

    async def acquire(self) -> Grant | None:
        """Take it if it is free; None while another holds it. Raises `LogUnavailable`."""

    async def renew(self, *, alone: bool = False) -> bool:
        """Hold it for another `ttl_s` from before this call; False when another epoch has begun. `alone`: nothing of
        the holders before is under way any more. Raises `LogUnavailable`."""

    async def release(self) -> None:
        """Give it back, with nothing under way. Raises `LogUnavailable`."""


class Cache(Protocol):
    """Documents read before, as many as it was made for: it may forget any at any time; a failing cache is a miss.
    `put` and `drop` come one after the other."""

    async def get(self, keys: Sequence[str]) -> list[bytes | None]: ...

    async def put(self, documents: dict[str, bytes]) -> None: ...

    async def drop(self, keys: Sequence[str]) -> None:
        """Raises `LogUnavailable`: a drop that may not have happened must not be taken for one that did."""


class Clock(Protocol):
    """Time as the services see it, so that tests can advance it."""

    def now_ns(self) -> int:
        """Monotonic; the only clock that decides anything."""

    def wall_s(self) -> float:
        """Seconds since 1970; for people and for lag, never for decisions."""

    async def sleep(self, seconds: float) -> None: ...


class Telemetry(Protocol):
    """Numbers for operators. Never raises, never waits."""

    def count(self, name: str, amount: float = 1, **tags: str) -> None: ...

    def gauge(self, name: str, value: float, **tags: str) -> None: ...

    def observe(self, name: str, value: float, **tags: str) -> None: ...

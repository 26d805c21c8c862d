"""What the HTTP edge needs of the service, and what it is told of documents and writes."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, NamedTuple, Protocol

from actors.core.dead_letter import DeadLetter, Page, Selection
from actors.core.document import Write
from actors.core.errors import SpillwayError
from actors.core.receipt import Receipt


class Found(NamedTuple):
    """A document as it will be: `base` as BSON (None: there is none), then `patches`, each a MongoDB update
    document."""

    base: bytes | None
    patches: list[bytes]
    source: str  # where the base is from: "buffer", "cache" or "mongodb"


class State(NamedTuple):
    """What became of an accepted write."""

    name: str  # "logged", "stored", "dead-lettered" or "unknown"
    reason: str = ""  # why MongoDB refused it


class Intake(Protocol):
    """The service as the HTTP edge sees it."""

    def append(self, writes: Sequence[Write]) -> Awaitable[list[Receipt]]:
        """Keep the writes of one request; one receipt each, in order, once they are on disk. It may begin at once,
        without being awaited, and fail at once.

        Raises `QueueFull`, `TooLarge`, `Draining`, `LogUnavailable`, `UnsafeLog`, `BufferUnavailable`, `Fenced` (surely
        nothing kept) and `OutcomeUnknown` (perhaps all or, where the writes belong to several buffers, a part; sending
        the same again is safe).
        """

    async def append_once(self, key: str, fingerprint: str, writes: Sequence[Write]) -> tuple[list[Receipt], bool]:
        """Like `append`, under an idempotency key: also tells whether the key was new. A known key with the same
        fingerprint keeps nothing and gives the first receipts again; with another it raises `IdempotencyConflict`. A
        new one beyond the number that may be remembered raises `IdempotencyFull`.

        Of the first writes only the place is remembered, so other writes need another fingerprint: their receipts
        would be those of writes that were never kept."""

    async def wait(self, receipts: Sequence[Receipt], timeout_s: float) -> list[State]:
        """States once none of them is "logged" any more, or when the time is up. Raises as `state`."""

    async def state(self, receipt: Receipt) -> State:
        """Raises `BufferUnavailable`, `LogUnavailable`."""

    async def read(self, namespace: str, ids: Sequence[str]) -> list[Found | SpillwayError]:
        """Documents as every write accepted so far makes them, in the order asked. Of each that cannot be told just now
        the reason: `DatabaseUnavailable`, `WriterUnavailable`, `BufferUnavailable`."""

    async def sample(self, namespace: str, limit: int) -> list[tuple[str, bytes]]:
        """Some documents that MongoDB holds, with their ids; they are in the shared cache afterwards. Raises
        `DatabaseUnavailable`, `WriterUnavailable`, `BufferUnavailable`."""

    async def status(self) -> dict[str, Any]:
        """Numbers for operators, see `GET /v1/status`. Never raises: of a part that does not answer it says so."""

    async def dead_letters(self, selection: Selection, limit: int, after: str) -> Page:
        """See `DeadLetters.list`. Raises `BufferUnavailable`, `LogUnavailable`."""

    async def dead_letter(self, id: str) -> DeadLetter | None: ...

    async def forget_dead_letters(self, ids: Sequence[str]) -> int:
        """See `DeadLetters.remove`."""

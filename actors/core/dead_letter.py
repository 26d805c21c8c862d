"""A write that MongoDB refused, and which of them are meant."""

from __future__ import annotations

from typing import NamedTuple

from actors.core.document import Write, decode_writes


class DeadLetter(NamedTuple):
    """A write that MongoDB will never take, with all that is needed to judge and to repeat it."""

    id: str  # "stream/position/index" of the write: the same rejection twice is one dead letter
    payload: bytes  # its frame, the original bytes
    reason: str
    attempts: int  # times its batch was handed to the writer, up to the rejection
    first_s: float  # wall clock, when it was accepted
    last_s: float  # wall clock, when it was rejected

    @property
    def write(self) -> Write:
        (write,) = decode_writes(self.payload)
        return write


class Selection(NamedTuple):
    """Which dead letters are meant; by default all of them."""

    namespace: str = ""  # "database.collection"; empty: any
    reason: str = ""  # a part of the reason, upper or lower case
    since_s: float = float("-inf")  # rejected then or later
    before_s: float = float("inf")  # rejected earlier than that

    def takes(self, letter: DeadLetter) -> bool:
        return (
            self.since_s <= letter.last_s < self.before_s
            and self.reason.casefold() in letter.reason.casefold()
            and (not self.namespace or self.namespace == letter.write.namespace)
        )


EVERY = Selection()


class Page(NamedTuple):
    """A part of the shelf, oldest first."""

    letters: list[DeadLetter]  # those that were meant; perhaps none
    scanned: int  # letters looked at
    next: str  # where to go on; empty at the end
    end: str  # the place of the newest letter on the shelf, when this page was asked for
    size: int  # letters on the shelf then

"""Every error that crosses a boundary: a stable code for machines, a sentence for people.

An error hands all its arguments to `super().__init__`, or it cannot be unpickled on the other side of an actor call.
"""

from __future__ import annotations


class SpillwayError(Exception):
    """Base of them all."""

    code = "internal"

    def __init__(self, message: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, retry_after_s)
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message or (self.__doc__ or "").strip()


class QueueFull(SpillwayError):
    """The buffer holds as much as it may; MongoDB drains it at its own pace."""

    code = "queue-full"


class TooLarge(SpillwayError):
    """More than one append can carry; it never can."""

    code = "body-too-large"


class Draining(SpillwayError):
    """The service is stopping and takes no new writes."""

    code = "draining"


class LogUnavailable(SpillwayError):
    """The durable log does not answer; the write was surely not kept."""

    code = "log-unavailable"


def unreadable(stream: str, position: str, why: object) -> LogUnavailable:
    """Of an entry in a layout from the future, or a damaged one."""
    return LogUnavailable(
        f"the stream {stream} holds an entry at {position} that this version cannot read ({why}). Nothing of it is "
        'poured: start the version that wrote it, and drain ("Upgrade, and back" in docs/operations.md)'
    )


class OutcomeUnknown(SpillwayError):
    """The log was asked to keep the write and did not answer in time: it may or may not be kept."""

    code = "outcome-unknown"


class Fenced(SpillwayError):
    """A newer owner has taken over; this one must stop."""

    code = "fenced"


class BufferUnavailable(SpillwayError):
    """The buffering actor is not answering; it is being restarted."""

    code = "buffer-unavailable"


class AnswerTooLarge(SpillwayError):
    """What was asked for is more than one answer can carry."""

    code = "answer-too-large"


class WriterUnavailable(SpillwayError):
    """The MongoWriter is not answering; it is being restarted."""

    code = "writer-unavailable"


class DatabaseUnavailable(SpillwayError):
    """MongoDB does not answer, and what was asked is in no buffer and no cache."""

    code = "mongodb-unavailable"


class IdempotencyConflict(SpillwayError):
    """This Idempotency-Key was used before for another request."""

    code = "idempotency-key-reused"


class IdempotencyFull(SpillwayError):
    """As many Idempotency-Keys are remembered as may be; a new one could not be kept for its time."""

    code = "idempotency-full"


class UnsafeLog(SpillwayError):
    """Redis is set up so that it may lose or evict what it acknowledged."""

    code = "unsafe-log"


class CommandNotSent(SpillwayError):
    """The command surely never reached the server."""

    code = "command-not-sent"


class CommandUnknown(SpillwayError):
    """The command was sent and no answer came: it may be executed, or still be executed later."""

    code = "command-unknown"


class CommandRefused(SpillwayError):
    """The server refused the whole command because of its content: some write in it can never be taken."""

    code = "command-refused"


class CommandFailed(SpillwayError):
    """The server answered with an error that is not about the content: it did nothing, or does not know; ask again
    later."""

    code = "command-failed"


class CommandTimedOut(CommandFailed):
    """The server itself ended the command when its time was up: some of its writes may be done, and nothing of it goes
    on."""

    code = "command-timed-out"


class CommandForbidden(CommandFailed):
    """The user under whose name the service asks has no right to it; that may be granted later."""

    code = "command-forbidden"

"""Every problem the edge can answer: one table from code to HTTP status, title and advice (RFC 9457)."""

from __future__ import annotations

import logging
import math
from typing import Any, NamedTuple

from actors.core.errors import SpillwayError
from serve_app.ids import uuid7

logger = logging.getLogger(__name__)


class Fault(NamedTuple):
    """What is the same in all problems of one code."""

    status: int
    title: str
    advice: str  # the text of /problems/{code}
    retry_after_s: float | None = None  # when the error itself does not know better; None: no Retry-After


_AGAIN = "Nothing was kept. Send the same request again after the seconds in Retry-After."

FAULTS: dict[str, Fault] = {
    # the service cannot, at the moment
    "queue-full": Fault(503, "The queue is full", f"More is waiting for MongoDB than may wait. {_AGAIN}", 1),
    "overloaded": Fault(
        503,
        "This replica has too much to do",
        f"More requests have come than it can begin in time. {_AGAIN} More replicas would share them.",
        1,
    ),
    "idempotency-full": Fault(
        503,
        "Too many Idempotency-Keys are remembered",
        "Each is kept for its whole time, so a new one has to wait for an old one's end. Nothing was kept. Requests "
        "without a key, and those under a known one, are still taken.",
        60,
    ),
    "quota-exceeded": Fault(
        429,
        "This caller's quota is used up",
        f"Others are still served. {_AGAIN} The fields RateLimit and RateLimit-Policy say how much there is.",
        1,
    ),
    "draining": Fault(503, "The service is stopping", f"It finishes what it has and takes nothing new. {_AGAIN}", 5),
    "log-unavailable": Fault(503, "The durable log does not answer", f"Redis is down, full or restarting. {_AGAIN}", 1),
    "buffer-unavailable": Fault(503, "The buffer does not answer", f"It is being restarted. {_AGAIN}", 1),
    "fenced": Fault(503, "The buffer was replaced", f"A newer buffer has taken over its stream. {_AGAIN}", 1),
    "writer-unavailable": Fault(
        503, "The writer does not answer", "It is being restarted; reads that need MongoDB wait for it.", 1
    ),
    "mongodb-unavailable": Fault(
        503,
        "MongoDB does not answer",
        "What was asked is in no buffer and no cache. Writes are still accepted meanwhile.",
        1,
    ),
    "count-unknown": Fault(
        503,
        "The number of documents is not known yet",
        "It will be when MongoDB has counted them once, and never where it does not let us count.",
        1,
    ),
    "not-ready": Fault(
        503, "Writes cannot be accepted now", "Redis or the buffer does not answer, or the service is stopping.", 1
    ),
    "out-of-memory": Fault(503, "This replica has no memory left", "Others may still answer. Nothing was changed.", 1),
    "unsafe-log": Fault(
        503,
        "Redis could lose what it acknowledged",
        "It must be 6.2 or newer, with appendonly yes, appendfsync always, no-appendfsync-on-rewrite no and "
        "noeviction.",
        60,
    ),
    "outcome-unknown": Fault(
        504,
        "It is not known whether the write was kept",
        "The log did not answer in time. Sending the same again is safe under the id given in the problem, "
        "or with the same Idempotency-Key; without either, a second request would make a second document.",
    ),
    "internal": Fault(
        500, "The service made a mistake", "It is in the log of its replica, under the problem's instance."
    ),
    # the request cannot, ever
    "malformed-json": Fault(
        400,
        "The body is not strict JSON",
        "UTF-8 without a byte order mark, no NaN or Infinity, no name twice in one object. The problem says where.",
    ),
    "invalid-document": Fault(
        422,
        "The document cannot be stored",
        "Names must not begin with $ (but for MongoDB extended JSON types) nor hold a NUL, integers have 64 bits, "
        "nesting ends at 64 levels. The field at fault is named.",
    ),
    "invalid-id": Fault(
        422,
        "The id cannot be used",
        'An id is a string of 1 to 256 characters without control characters that does not begin with "{" and is not '
        '"batch", or an integer, or {"$oid": "..."}. In a path the latter two are written as extended JSON.',
    ),
    "invalid-patch": Fault(
        422,
        "The merge patch cannot be applied",
        "It must be an object that changes something, with names that are not empty, hold no dot and do not begin "
        "with $; an empty object inside it says nothing MongoDB could do; the _id cannot change.",
    ),
    "invalid-name": Fault(
        422,
        "The database or collection cannot be used",
        "Databases: letters, digits, _ and -, at most 63, not admin, local or config, one of the setting `databases`. "
        "Collections: letters, digits, _ . -, at most 120, not beginning with . - or system., without .. or a . at the "
        "end.",
    ),
    "invalid-parameter": Fault(400, "A parameter has a wrong value", "The problem names it and says what it may be."),
    "unknown-parameter": Fault(
        400, "There is no such parameter", "A misspelt parameter would do nothing unseen, so it is refused."
    ),
    "invalid-header": Fault(
        400,
        "A header cannot be taken",
        "The problem names it and says what it may be. A write with If-Match, If-None-Match, If-Unmodified-Since or "
        "Content-Range is refused: a write that has to be kept before MongoDB is asked cannot depend on what is there.",
    ),
    "unsupported-media-type": Fault(
        415,
        "The body has the wrong type",
        "JSON in UTF-8 with its Content-Type, not compressed; a batch may also be NDJSON.",
    ),
    "body-too-large": Fault(
        413, "The body is too large", "The problem says how much is taken. Send it in smaller parts."
    ),
    "body-too-slow": Fault(408, "The body did not come in time", "Nothing was kept. Send it again, in smaller parts."),
    "document-too-large": Fault(
        413, "The document is too large", "Counted as BSON. The problem says how much is taken."
    ),
    "too-many-items": Fault(422, "The batch has too many documents", "The problem says how many are taken."),
    "nothing-accepted": Fault(422, "No document of the batch can be stored", "Each item's own problem is in the list."),
    "idempotency-key-reused": Fault(
        422,
        "The Idempotency-Key was used for another request",
        "A key belongs to one request, and to what was taken of it: its type and changed limits count too. Nothing was "
        "kept of this one.",
    ),
    "rejected-by-mongodb": Fault(
        422, "MongoDB will never take the write", "The reason is its own. The write is kept among the dead letters."
    ),
    "cross-site": Fault(
        403,
        "Another site's page must not do this",
        "A browser would send it for any page that is open in it. Programs, and pages of this service, may.",
    ),
    "unknown-host": Fault(
        421,
        "The service is not known by this name",
        "A browser lets any site's page ask this machine under the site's name (DNS rebinding), as if that were it. "
        "Ask localhost or an address, or put the name into the setting `allowed_hosts`. A proxy in front may also send "
        "the address as Host.",
    ),
    "not-found": Fault(404, "There is nothing at this address", "See /docs for what there is."),
    "no-such-document": Fault(404, "There is no such document", "Neither in MongoDB nor among the accepted writes."),
    "no-such-receipt": Fault(404, "There is no such receipt", "Use the receipt exactly as it was given."),
    "no-such-dead-letter": Fault(404, "There is no such dead letter", "It may have been replayed or discarded."),
    "method-not-allowed": Fault(405, "The method is not possible here", "The header Allow lists the possible ones."),
}


class Problem(Exception):
    """An answer that is not a success. `code` is a key of `FAULTS`, `detail` says what is wrong and what to do."""

    def __init__(
        self, code: str, detail: str, field: str | None = None, retry_after_s: float | None = None, **more: Any
    ) -> None:
        super().__init__(code, detail, field, retry_after_s)
        self.code = code
        self.detail = detail
        self.field = field
        self.retry_after_s = retry_after_s
        self.more = more
        self.headers: list[tuple[bytes, bytes]] = []

    @property
    def status(self) -> int:
        return FAULTS[self.code].status

    @property
    def retry_after(self) -> int | None:
        """Whole seconds, rounded up, at least 1; None when there is no use in asking again."""
        known = FAULTS[self.code].retry_after_s
        if known is None:
            return None
        return max(1, math.ceil(known if self.retry_after_s is None else self.retry_after_s))

    def document(self) -> dict[str, Any]:
        """The members of the problem document."""
        fault = FAULTS[self.code]
        document: dict[str, Any] = {
            "type": f"/problems/{self.code}",
            "title": fault.title,
            "status": fault.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.field is not None:
            # A name of the client's: any length, and perhaps the very text that is no Unicode.
            document["field"] = self.field[:500].encode("utf-8", "backslashreplace").decode()
        if self.retry_after is not None:
            document["retry_after_s"] = self.retry_after
        return document | self.more


def surely_kept_nothing(error: Exception) -> bool:
    """Whether `error`, which ended an append, is a refusal."""
    return isinstance(error, SpillwayError | Problem) and error.code not in ("outcome-unknown", "internal")


def problem_of(error: Exception) -> Problem:
    """The problem to answer for any exception; what nobody foresaw is logged and told without its inside."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, SpillwayError) and error.code in FAULTS and error.code != "internal":
        # Not str(error): an error that comes out of an actor carries that actor's traceback in its text.
        return Problem(error.code, error.message or FAULTS[error.code].title + ".", retry_after_s=error.retry_after_s)
    instance = f"urn:uuid:{uuid7()}"
    logger.error("Unhandled error, answered as %s", instance, exc_info=error)
    return Problem("internal", "Nobody foresaw this. Please report it with its instance.", instance=instance)

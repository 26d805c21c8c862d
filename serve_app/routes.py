"""The table of routes: method, path, handler, and what the OpenAPI document says of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from serve_app import contract as c
from serve_app.data import Data
from serve_app.dead_letters import REPLAY_WAIT_S, DeadLetters
from serve_app.health import Health
from serve_app.limits import EdgeLimits
from serve_app.metrics import Metrics
from serve_app.reads import Reader
from serve_app.receipts import Receipts
from serve_app.writes import Writes

_PAGES = (
    "A page ends at `limit` letters or 4 MiB, or when 2,000 or 16 MiB have been looked at, so it may hold few or none: "
    "go on while there is a `next`. Together the pages cover what was there when the first was asked for."
)

# A probe knows no name, and /api/data has no time for one: it is a GET, which a page may send anywhere.
_UNDER_ANY_NAME = ("/api/data", "/readyz", "/livez", "/healthz")

Handler = Callable[[Request], Awaitable[Response]]


class Route(NamedTuple):
    method: str
    path: str
    handler: Handler
    tag: str
    summary: str
    description: str
    details: dict[str, Any]  # the rest of the OpenAPI operation


def routes(
    limits: EdgeLimits,
    data: Data,
    writes: Writes,
    reader: Reader,
    receipts: Receipts,
    letters: DeadLetters,
    health: Health,
    metrics: Metrics,
) -> list[Route]:
    """Every route of the service but the pages about it, in the order of the documentation."""
    collection = "/v1/{database:database}/{collection}"
    document = f"{collection}/{{id:id}}"
    asked = ("unknown-parameter", "internal", "out-of-memory")
    json = ("application/json", c.schema_of("Document"))
    content = ("application/json", c.schema_of("NewContent"))
    patch = c.schema_of("MergePatch")
    documents = {"type": "array", "items": c.schema_of("Document"), "minItems": 1, "maxItems": limits.max_batch_items}
    lines = {"type": "string", "description": "One document per line."}
    logged = c.answer("Accepted", "The write is in the durable log.", c.WRITTEN)
    stored = c.answer("Accepted", "The write is in MongoDB; only when a wait was asked for.", c.WRITTEN)
    written = {"202": logged, "201": stored}
    keys = f"An Idempotency-Key is remembered for {limits.idempotency_ttl_s} s."
    waits = f"Waits are cut to {limits.max_wait_s:g} s."
    size = f"A document has at most {limits.max_document_bytes} bytes as BSON, a body {limits.max_body_bytes} bytes."

    def route(
        method: str,
        path: str,
        handler: Handler,
        tag: str,
        summary: str,
        description: str,
        good: dict[str, Any],
        bad: tuple[str, ...],
        parameters: tuple[Any, ...] = (),
        body: Any = None,
    ) -> Route:
        if "{" in path:
            bad = (*bad, *c.ELSEWHERE)
        if path not in _UNDER_ANY_NAME:
            bad = (*bad, "unknown-host")
        if body is None:
            bad = (*bad, *c.NO_BODY)
        details: dict[str, Any] = {"responses": good | c.problems(bad), "parameters": list(parameters)}
        return Route(
            method, path, handler, tag, summary, description, details | ({"requestBody": body} if body else {})
        )

    return [
        route(
            "GET", "/api/data", data.read_and_write, "Data", "Five reads and five writes",
            f"Reads five documents of {limits.data_namespace} and writes five, durable when this answers.",
            {"200": c.answer("DataAnswer", "Five writes are durable.", c.QUOTA)}, (*c.APPEND, "quota-exceeded"),
        ),
        route(
            "GET", "/api/stats", data.stats, "Data", "How many documents are stored", f"In {limits.data_namespace}.",
            {"200": c.answer("Stats", "The count, at most a second old as the writer knows it.")},
            ("count-unknown", *asked),
        ),
        route(
            "POST", collection, writes.create, "Documents", "Write a document",
            "Without `_id` it gets one of ours and is inserted. With its own `_id` it replaces what is there: the last "
            f"accepted write wins. {size} {keys} {waits}",
            written, (*c.WRITE, *c.BODY, "invalid-id"), (*c.NAMESPACE, *c.WAITING), c.body(json),
        ),
        route(
            "POST", f"{collection}/batch", writes.batch, "Documents", "Write many documents",
            f"At most {limits.max_batch_items}, as a JSON array or as NDJSON. The sound ones are kept, all or none; "
            "where there are several buffers a part may be kept, and is then told as 504. Each other one is reported "
            f"with its own problem. {size} {keys} {waits}",
            {
                "202": c.answer("BatchAnswer", "The accepted ones are in the durable log.", c.WRITTEN[1:]),
                "201": c.answer("BatchAnswer", "MongoDB has decided; only when a wait was asked for.", c.WRITTEN[1:]),
            },
            (*c.WRITE, *c.BODY, "invalid-id", "too-many-items", "nothing-accepted"), (*c.NAMESPACE, *c.WAITING),
            c.body(("application/json", documents), ("application/x-ndjson", lines)),
        ),
        route(
            "GET", document, reader.get, "Documents", "Read a document",
            "As every write accepted so far makes it, also one that MongoDB has not seen yet. What another replica "
            f"wrote may be {limits.near_cache_ttl_s:g} s late, unless Cache-Control says no-cache.",
            {"200": c.answer("StoredDocument", "The document, as relaxed extended JSON.", ["X-Spillway-Source"])},
            (*c.ASK, "overloaded", "invalid-name", "invalid-id", "no-such-document"),
            (*c.NAMESPACE, c.ID, c.CACHE_CONTROL),
        ),
        route(
            "PUT", document, writes.put, "Documents", "Write a document under an id",
            f"Replaces what is there: the last accepted write wins. {size} {keys} {waits}",
            written, (*c.WRITE, *c.BODY, "invalid-id"), (*c.NAMESPACE, c.ID, *c.WAITING), c.body(content),
        ),
        route(
            "PATCH", document, writes.patch, "Documents", "Change fields of a document",
            "A merge patch (RFC 7396), as far as MongoDB can carry one out; where there is no document it makes one. "
            "Where it would put fields inside a value that is no object, MongoDB refuses it and it becomes a dead "
            "letter; but in an array a name of digits is a position. What is to be removed inside a value that is no "
            f"object leaves that value as it is. {keys} {waits}",
            written, (*c.WRITE, *c.BODY, "invalid-id", "invalid-patch"), (*c.NAMESPACE, c.ID, *c.WAITING),
            c.body(("application/merge-patch+json", patch), ("application/json", patch)),
        ),
        route(
            "DELETE", document, writes.delete, "Documents", "Delete a document", f"It need not exist. {keys} {waits}",
            written, (*c.WRITE, "invalid-id"), (*c.NAMESPACE, c.ID, *c.WAITING),
        ),
        route(
            "GET", "/v1/receipts/{receipt}", receipts.get, "Receipts", "What became of a write",
            "Still only logged, stored in MongoDB, or dead-lettered with MongoDB's reason.",
            {"200": c.answer("ReceiptAnswer", "Its state.")}, (*c.ASK, "no-such-receipt"), (c.RECEIPT,),
        ),
        route(
            "GET", "/v1/dead-letters", letters.page, "Dead letters", "Writes that MongoDB refused",
            f"Oldest first, without their bodies. {_PAGES}",
            {"200": c.answer("DeadLetterPage", "A page of them.")}, c.ASK, c.LISTED,
        ),
        route(
            "POST", "/v1/dead-letters/replay", letters.replay_page, "Dead letters", "Write a page of them again",
            "Each behind everything accepted since: it wins over later writes to the same document, also when it was "
            "an insert. A letter is forgotten only when its write is in the durable log again; asking again after an "
            f"error is safe. The page is followed to MongoDB for {REPLAY_WAIT_S:g} s at most. {_PAGES}",
            {"200": c.answer("ReplayedPage", "What became of the page.")}, (*c.ASK, *c.APPEND, "cross-site"), c.MEANT,
        ),
        route(
            "POST", "/v1/dead-letters/discard", letters.discard_page, "Dead letters", "Forget a page of them",
            f"For good. {_PAGES}", {"200": c.answer("DiscardedPage", "They are gone.")},
            (*c.ASK, "outcome-unknown", "cross-site"), c.MEANT,
        ),
        route(
            "GET", "/v1/dead-letters/{id:letter}", letters.get, "Dead letters", "One of them", "With its body.",
            {"200": c.answer("DeadLetterAnswer", "The letter.")}, (*c.ASK, "no-such-dead-letter"), (c.LETTER,),
        ),
        route(
            "POST", "/v1/dead-letters/{id:letter}/replay", letters.replay, "Dead letters", "Write it again",
            "Behind everything accepted since: it wins over later writes to the same document.",
            {"202": c.answer("Accepted", "It is in the durable log again.", ["Location"])},
            (*c.APPEND, "no-such-dead-letter", "cross-site"), (c.LETTER,),
        ),
        route(
            "DELETE", "/v1/dead-letters/{id:letter}", letters.discard, "Dead letters", "Forget it", "For good.",
            {"204": c.answer(None, "It is gone.")}, (*c.ASK, "outcome-unknown", "no-such-dead-letter"), (c.LETTER,),
        ),
        route(
            "GET", "/v1/status", health.status, "Operation", "Numbers for operators", "At most half a second old.",
            {"200": c.answer("Status", "Whatever could be learned.")}, asked,
        ),
        route(
            "GET", "/metrics", metrics.get, "Operation", "The same for Prometheus", "At most half a second old.",
            {"200": c.page(CONTENT_TYPE_LATEST, "Whatever could be learned.")}, asked,
        ),
        route(
            "GET", "/readyz", health.ready, "Operation", "Can writes be accepted?",
            "MongoDB may be down meanwhile: the log absorbs.",
            {"200": c.answer("Ready", "They can.")}, (*asked, "invalid-parameter", "not-ready"), (c.VERBOSE,),
        ),
        *(
            route(
                "GET", path, health.alive, "Operation", "Does the process live?", "Asks nothing else.",
                {"200": c.answer("Alive", "It does.")}, asked,
            )
            for path in ("/livez", "/healthz")
        ),
    ]  # fmt: skip

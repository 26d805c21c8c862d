"""Writing documents: every 2xx says that the write is in the durable log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from actors.core.document import Kind, Write
from actors.core.intake import State
from actors.core.receipt import Receipt
from serve_app import bodies
from serve_app.answers import Answer, json_answer
from serve_app.appends import Appends
from serve_app.breather import Breather
from serve_app.documents import document, encode, parse, refuse_larger
from serve_app.errors import Problem
from serve_app.ids import InvalidId, id_text, id_value, keyed_id, uuid7
from serve_app.limits import EdgeLimits
from serve_app.parameters import (
    IdempotencyKey,
    Preference,
    Targets,
    headers_of,
    idempotency_key,
    preference,
    refuse_conditions,
)
from serve_app.patches import update_of
from serve_app.quota import Callers
from serve_app.receipts import accepted, location
from serve_app.turns import Turns

_LARGE_BYTES = 256 * 1024  # of a batch: more is milliseconds of work
_WRITE_BYTES = 400  # of each beside its document: objects, id, namespace
_VARY = (b"vary", b"Prefer")
_REPLAYED = (b"idempotency-replayed", b"true")


@dataclass(slots=True)
class Ask:
    """What a write request says."""

    preference: Preference
    key: IdempotencyKey | None
    media_type: str
    request: Request
    _body: bytes

    @property
    def size(self) -> int:
        """Bytes of the body that it still holds."""
        return len(self._body)

    def take_body(self) -> bytes:
        """Once: while a write waits for its turn and for MongoDB only its document is held, which is bounded and
        counted. A body may be megabytes of blanks around it."""
        body, self._body = self._body, b""
        return body


class Writes:
    def __init__(
        self,
        appends: Appends,
        callers: Callers,
        targets: Targets,
        taken: bodies.Bodies,
        limits: EdgeLimits,
        monotonic: Callable[[], float],
    ) -> None:
        self._appends = appends
        self._targets = targets
        self._callers = callers
        self._limits = limits
        self._bodies = taken
        self._large = Turns(limits.request_timeout_s, most=1)  # what is parsed takes many times the bytes of its body
        self._monotonic = monotonic

    async def create(self, request: Request) -> Answer:
        """POST a document. Without `_id` it gets one of ours and is an insert; with one it replaces what was there."""
        namespace = self._targets.namespace(request)
        ask = await self._ask(request, namespace, bodies.JSON_TYPES)
        return await self._keep(ask, self._document(namespace, self._parsed(ask.take_body()), ask.key, 0))

    async def put(self, request: Request) -> Answer:
        """The document under the path's id, whatever was there."""
        namespace, id_ = self._targets.document(request)
        ask = await self._ask(request, namespace, bodies.JSON_TYPES)
        return await self._keep(ask, self._put(namespace, id_, document(self._parsed(ask.take_body()))))

    async def patch(self, request: Request) -> Answer:
        """A merge patch on whatever is there; on nothing it makes a document, as an upsert."""
        namespace, id_ = self._targets.document(request)
        ask = await self._ask(request, namespace, bodies.PATCH_TYPES)
        most = self._limits.max_document_bytes
        return await self._keep(
            ask, Write(Kind.PATCH, namespace, id_, encode(update_of(self._parsed(ask.take_body()), id_, most), most))
        )

    async def delete(self, request: Request) -> Answer:
        """Nothing under the path's id. It need not exist: the answer is the same."""
        namespace, id_ = self._targets.document(request)
        headers = headers_of(request)
        refuse_conditions(headers)
        ask = Ask(
            preference(request, headers, self._limits.max_wait_s),
            idempotency_key(headers, request, namespace, "", b""),
            "",
            request,
            b"",
        )
        return await self._keep(ask, Write(Kind.DELETE, namespace, id_, b""))

    async def batch(self, request: Request) -> Answer:
        """Many documents: the sound ones are kept, in one append per buffer; each other one is told its problem."""
        namespace = self._targets.namespace(request)
        ask = await self._ask(request, namespace, bodies.BATCH_TYPES)
        items, writes = await self._sorted_out(ask, namespace)
        if not writes:
            raise Problem("nothing-accepted", "No document of the batch can be stored; see its items.", items=items)
        receipts, headers = await self._append(ask, writes)
        del writes  # as in `_keep`
        states = await self._appends.settle(receipts, ask.preference.wait_s)
        sound = [item for item in items if "error" not in item]
        for item, receipt, state in zip(sound, receipts, states, strict=True):
            item |= accepted(receipt, state)
            if state.name == "dead-lettered":
                item["error"] = _rejected(state, item["receipt"]).document()
        if all(state.name == "dead-lettered" for state in states):
            raise Problem(
                "nothing-accepted", "MongoDB refused every document of the batch; see its items.", items=items
            )
        status = 202 if any(state.name == "logged" for state in states) else 201
        errors = sum("error" in item for item in items)
        return json_answer(status, {"items": items, "accepted": len(items) - errors, "rejected": errors}, headers)

    async def _ask(self, request: Request, namespace: str, types: tuple[str, ...]) -> Ask:
        headers = headers_of(request)
        refuse_conditions(headers)
        wanted = preference(request, headers, self._limits.max_wait_s)
        media_type = bodies.media_type(headers, types)
        body = await self._bodies.read(request, headers)
        key = idempotency_key(headers, request, namespace, media_type, body)
        return Ask(wanted, key, media_type, request, body)

    def _parsed(self, body: bytes) -> Any:
        """One document."""
        most = self._limits.max_document_bytes
        # Each comma stands for a byte of BSON at least, in a text or before a value: known here at once, and otherwise
        # after seconds in which nobody else is answered.
        if len(body) > most and body.count(b",") > most:
            raise Problem("document-too-large", f"At most {most} bytes as BSON are taken; it has more commas.")
        return self._sized(parse(body), len(body))

    def _sized(self, parsed: Any, size: int) -> Any:
        """What was parsed from `size` bytes, perhaps among others. Each value has a byte there: few are not counted."""
        if size > self._limits.max_document_bytes:
            refuse_larger(parsed, self._limits.max_document_bytes)
        return parsed

    async def _sorted_out(self, ask: Ask, namespace: str) -> tuple[list[dict[str, Any]], list[Write]]:
        """What is told of each document of a batch, and the writes of the sound ones. Of the large batches one is at
        work at a time, and pauses for the other requests."""
        items: list[dict[str, Any]] = []
        writes: list[Write] = []
        size = ask.size
        is_large = size > _LARGE_BYTES
        if is_large:
            await self._large.take(size)
        try:
            breather = Breather(self._monotonic)
            for index, item in enumerate(self._items(ask)):
                if is_large and breather.is_due():
                    await breather.take()
                try:
                    parsed = self._parsed(item) if isinstance(item, bytes) else self._sized(item, size)
                    writes.append(self._document(namespace, parsed, ask.key, index))
                    items.append({"index": index})
                except Problem as problem:
                    items.append({"index": index, "error": problem.document()})
        finally:
            if is_large:
                self._large.give_back()
        return items, writes

    def _document(self, namespace: str, parsed: Any, key: IdempotencyKey | None, index: int) -> Write:
        members = document(parsed)
        if "_id" in members:
            return self._put(namespace, _text(members["_id"]), members)
        id_ = uuid7() if key is None else keyed_id(key.digest, key.fingerprint, index)
        return Write(Kind.INSERT, namespace, id_, encode({"_id": id_, **members}, self._limits.max_document_bytes))

    def _put(self, namespace: str, id_: str, members: dict[str, Any]) -> Write:
        if "_id" in members and _text(members["_id"]) != id_:
            raise Problem(
                "invalid-id", "The _id in the body is not the one in the path. Leave it out, or make them equal.", "_id"
            )
        members = {"_id": None} | members  # MongoDB keeps the _id first
        members["_id"] = id_value(id_)
        return Write(Kind.PUT, namespace, id_, encode(members, self._limits.max_document_bytes))

    def _items(self, ask: Ask) -> list[Any]:
        """Parsed items of a JSON array, or lines of NDJSON still to be parsed."""
        items: Any
        if ask.media_type == "application/x-ndjson":
            items = [line for line in ask.take_body().split(b"\n") if line.strip()]
        else:
            items = parse(ask.take_body())
            if not isinstance(items, list):
                raise Problem(
                    "invalid-document", "A batch is a JSON array of documents, or NDJSON as application/x-ndjson."
                )
        if not items:
            raise Problem("nothing-accepted", "The batch is empty. Send at least one document.", items=[])
        if len(items) > self._limits.max_batch_items:
            raise Problem(
                "too-many-items", f"It has {len(items)} documents; at most {self._limits.max_batch_items} are taken."
            )
        return items  # type: ignore[no-any-return]

    async def _keep(self, ask: Ask, write: Write) -> Answer:
        (receipt,), headers = await self._append(ask, [write])
        # It is in the log, and while this waits for MongoDB nobody counts what is held here: under a known key not even
        # the backlog has it once more.
        del write
        (state,) = await self._appends.settle([receipt], ask.preference.wait_s)
        answer = accepted(receipt, state)
        if state.name == "dead-lettered":
            raise _rejected(state, answer["receipt"])
        return json_answer(201 if state.name == "stored" else 202, answer, (location(answer["receipt"]), *headers))

    async def _append(self, ask: Ask, writes: list[Write]) -> tuple[list[Receipt], list[tuple[bytes, bytes]]]:
        """Receipts of durable writes, and the headers that go with the answer."""
        charged = self._callers.charge(ask.request, len(writes))
        size = sum(len(write.body) + _WRITE_BYTES for write in writes)
        append = self._appends.keep(lambda: writes, size, ask.key)
        receipts, fresh, quota = await self._callers.paid(charged, append)
        headers = [_VARY, *ask.preference.applied, *quota]
        return receipts, headers if fresh else [*headers, _REPLAYED]


def _text(value: Any) -> str:
    try:
        return id_text(value)
    except InvalidId as error:
        raise Problem("invalid-id", f"The _id {error}.", "_id") from None


def _rejected(state: State, receipt: str) -> Problem:
    return Problem("rejected-by-mongodb", f"MongoDB refused it: {state.reason}", reason=state.reason, receipt=receipt)

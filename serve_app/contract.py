"""The OpenAPI description of the routes: what each takes, and every answer it can give."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from pydantic.json_schema import models_json_schema

from serve_app.dead_letters import CURSOR_PATTERN, MAX_LIMIT, NAMESPACE_PATTERN, REASON_PATTERN
from serve_app.errors import FAULTS
from serve_app.ids import ID_PATTERN, MAX_ID_CHARACTERS, TEXT_ID
from serve_app.parameters import COLLECTION_PATTERN, DATABASE_PATTERN, KEY_PATTERN, RESERVED_DATABASES
from serve_app.schemas import ANSWERS

Json = dict[str, Any]

_NAME = r"^(?!\$)[^\x00]*$"
_INT64 = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
_DOUBLE = {"type": "number", "minimum": -sys.float_info.max, "maximum": sys.float_info.max}
_SCALARS = [{"type": ["null", "boolean", "string"]}, _INT64, _DOUBLE]
_OPEN = {"propertyNames": {"pattern": _NAME}, "additionalProperties": {"$ref": "#/components/schemas/Value"}}

COMPONENTS: Json = {
    "Value": {
        "description": "A JSON value. MongoDB extended JSON stands for its types: $oid, $date, $numberInt, "
        "$numberLong, $numberDouble, $numberDecimal, $binary, $uuid, $timestamp, $regularExpression, $minKey, $maxKey. "
        "A $date in words needs its Z or an offset, and is kept to the millisecond.",
        "anyOf": [
            *_SCALARS,
            {"type": "array", "items": {"$ref": "#/components/schemas/Value"}},
            {"type": "object", **_OPEN},
            {"$ref": "#/components/schemas/Oid"},
        ],
    },
    "Oid": {
        "type": "object", "required": ["$oid"], "additionalProperties": False,
        "properties": {"$oid": {"type": "string", "pattern": "^[0-9a-f]{24}$"}},
    },
    "Id": {
        "description": "Of the document. A string, an integer of 64 bits, or an ObjectId.",
        "anyOf": [
            {"type": "string", "pattern": f"^{TEXT_ID}$", "maxLength": MAX_ID_CHARACTERS},
            _INT64,
            {"$ref": "#/components/schemas/Oid"},
        ],
    },
    "Document": {
        "description": "Nesting ends at 64 levels.",
        "type": "object", "properties": {"_id": {"$ref": "#/components/schemas/Id"}},
        **_OPEN,
    },
    "StoredDocument": {"description": "Relaxed extended JSON.", "type": "object", "required": ["_id"]},
    "NewContent": {
        "description": "A document; its _id may be left out, or be the one in the path.",
        "type": "object", "properties": {"_id": False},
        **_OPEN,
    },
    "MergePatch": {
        "description": "RFC 7396: null removes, objects merge, everything else replaces.",
        "type": "object", "properties": {"_id": False}, "minProperties": 1,
        "propertyNames": {"pattern": r"^[^$.\x00][^.\x00]*$"},
        "additionalProperties": {
            "anyOf": [
                *_SCALARS,
                {"type": "array", "items": {"$ref": "#/components/schemas/Value"}},
                {"$ref": "#/components/schemas/MergePatch"},
            ]
        },
    },
}  # fmt: skip

_UNANSWERED = ("log-unavailable", "buffer-unavailable")
APPEND = (
    "queue-full", "overloaded", "draining", *_UNANSWERED, "fenced", "unsafe-log", "outcome-unknown", "internal",
    "unknown-parameter", "invalid-parameter",
)  # fmt: skip
ASK = (
    *_UNANSWERED, "writer-unavailable", "mongodb-unavailable", "out-of-memory", "internal", "unknown-parameter",
    "invalid-parameter",
)  # fmt: skip
WRITE = (
    *APPEND, "quota-exceeded", "idempotency-full", "invalid-name", "invalid-header", "idempotency-key-reused",
    "rejected-by-mongodb",
)  # fmt: skip
BODY = (
    "malformed-json", "invalid-document", "unsupported-media-type", "body-too-large", "body-too-slow",
    "document-too-large", "out-of-memory",
)  # fmt: skip
NO_BODY = ("body-too-large", "body-too-slow", "out-of-memory")  # of one that nobody asked for
ELSEWHERE = ("not-found", "method-not-allowed")  # a path parameter out of its pattern leads to another address


def parameter(place: str, name: str, description: str, schema: Json, *, required: bool = False) -> Json:
    required = required or place == "path"
    return {"name": name, "in": place, "required": required, "description": description, "schema": schema}


DATABASE = parameter(
    "path", "database", "A MongoDB database, created when it is first written to.",
    {"type": "string", "pattern": DATABASE_PATTERN, "not": {"enum": list(RESERVED_DATABASES)}, "maxLength": 63},
)  # fmt: skip
COLLECTION = parameter(
    "path", "collection", "A collection of it, created when it is first written to.",
    {"type": "string", "pattern": COLLECTION_PATTERN, "maxLength": 120},
)  # fmt: skip
NAMESPACE = (DATABASE, COLLECTION)
ID = parameter(
    "path", "id", "A string as it is (percent-encoded; slashes may stay), anything else as canonical extended JSON.",
    {"type": "string", "pattern": ID_PATTERN, "minLength": 1, "maxLength": MAX_ID_CHARACTERS},
)  # fmt: skip
RECEIPT = parameter("path", "receipt", "As it was given.", {"type": "string", "minLength": 1})
LETTER = parameter("path", "id", "As the list gives it.", {"type": "string", "minLength": 1})
KEY = parameter(
    "header", "Idempotency-Key", "Sending the same request again under the same key keeps nothing twice.",
    {"type": "string", "pattern": KEY_PATTERN},
)  # fmt: skip
PREFER = parameter(
    "header", "Prefer", "wait=N: answer when MongoDB has stored it, after N seconds at the latest.", {"type": "string"}
)
ACK = parameter(
    "query", "ack", "db: as Prefer with the longest wait allowed.", {"type": "string", "enum": ["log", "db"]}
)
WAITING = (KEY, PREFER, ACK)
_OF = {"type": "string", "pattern": NAMESPACE_PATTERN}
_WHICH = (
    parameter(
        "query", "reason", "Only those whose reason holds this text, in upper or lower case; a code of MongoDB's is "
        "part of it, as in E11000.", {"type": "string", "pattern": REASON_PATTERN},
    ),
    parameter("query", "since", "Only those rejected then or later.", {"type": "string", "format": "date-time"}),
    parameter("query", "before", "Only those rejected earlier.", {"type": "string", "format": "date-time"}),
    parameter(
        "query", "limit", "Letters on a page.", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 100}
    ),
    parameter(
        "query", "after", "The `next` of the page before. `X_Y`: those behind X up to Y, each the `end` of a page; "
        "`0-0_Y`: all up to Y.", {"type": "string", "pattern": CURSOR_PATTERN},
    ),
)
LISTED = (parameter("query", "namespace", "Only those for this database.collection; * for all.", _OF), *_WHICH)
MEANT = (
    parameter("query", "namespace", "Those for this database.collection; * for all.", _OF, required=True), *_WHICH
)  # fmt: skip
VERBOSE = parameter("query", "verbose", "Adds what /v1/status says.", {"type": "string", "enum": ["", "1", "true"]})
CACHE_CONTROL = parameter("header", "Cache-Control", "no-cache: not from the replica's own cache.", {"type": "string"})

_HEADERS = {
    "Location": "Where to ask what became of the write.",
    "Vary": "Prefer: the answer depends on it.",
    "Preference-Applied": "When Prefer was given: how long the answer was held back at most.",
    "Idempotency-Replayed": "true when the Idempotency-Key was known and nothing was kept again.",
    "X-Spillway-Source": "near, buffer, cache or mongodb.",
    "RateLimit-Policy": "When callers have a quota: q writes at once, all of them again after w seconds of none.",
    "RateLimit": "When callers have a quota: r writes are left of it, the whole is there again in t seconds.",
}
_ALWAYS_SENT = ("Location", "Vary", "X-Spillway-Source")
QUOTA = ("RateLimit-Policy", "RateLimit")
WRITTEN = ("Location", "Vary", "Preference-Applied", "Idempotency-Replayed", *QUOTA)


def answer(schema: str | None, description: str, headers: Iterable[str] = ()) -> Json:
    """A success with a body of this schema (None: without one)."""
    described: Json = {"description": description}
    if schema is not None:
        described["content"] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    sent = {
        name: {"description": _HEADERS[name], "required": name in _ALWAYS_SENT, "schema": {"type": "string"}}
        for name in headers
    }
    return described | ({"headers": sent} if sent else {})


def page(media_type: str, description: str) -> Json:
    """A success with a text of this type."""
    return {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}


def problems(codes: Iterable[str]) -> Json:
    """One response per status of these codes, naming the codes."""
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(FAULTS[code].status, []).append(code)
    described: Json = {}
    for status, named in sorted(by_status.items()):
        described[str(status)] = {
            "description": "; ".join(f"`{code}`: {FAULTS[code].title}" for code in named),
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        if status == 405:
            allow = {"description": "What is possible.", "required": True, "schema": {"type": "string"}}
            described["405"]["headers"] = {"Allow": allow}
        if any(FAULTS[code].retry_after_s is not None for code in named):
            seconds = {"description": "Whole seconds.", "required": True, "schema": {"type": "integer", "minimum": 1}}
            described[str(status)]["headers"] = {"Retry-After": seconds}
        if status == 429:
            described["429"]["headers"] |= {
                name: {"description": _HEADERS[name], "required": True, "schema": {"type": "string"}} for name in QUOTA
            }
    return described


def body(*media_types: tuple[str, Json]) -> Json:
    return {"required": True, "content": {name: {"schema": schema} for name, schema in media_types}}


def schema_of(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def components() -> Json:
    """All schemas that `answer`, `problems` and `body` refer to."""
    _, defined = models_json_schema(
        [(model, "serialization") for model in ANSWERS], ref_template="#/components/schemas/{model}"
    )
    schemas: Json = defined["$defs"]
    for model in ANSWERS:  # fields with a default may be missing in an answer, whatever pydantic says of serialization
        schemas[model.__name__]["required"] = [
            name for name, field in model.model_fields.items() if field.is_required()
        ]
    schemas["Item"]["required"] = ["index"]
    return schemas | COMPONENTS

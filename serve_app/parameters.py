"""What a request says beside its body: names in the path, query, Prefer and Idempotency-Key."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple
from urllib.parse import parse_qsl

from starlette.requests import Request

from actors.core.document import Write
from serve_app.errors import Problem
from serve_app.ids import InvalidId, id_text, id_value

DATABASE_PATTERN = r"^(?!(?:[aA][dD][mM][iI][nN]|[lL][oO][cC][aA][lL]|[cC][oO][nN][fF][iI][gG])$)[A-Za-z0-9_-]{1,63}$"
COLLECTION_PATTERN = r"^(?!system\.)(?!.*\.\.)(?!.*\.$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,119}$"
KEY_PATTERN = r"^[\x21-\x7e]{1,255}$"
RESERVED_DATABASES = ("receipts", "status", "dead-letters")  # other things live under these paths

_DATABASE = re.compile(DATABASE_PATTERN[1:-1])
_COLLECTION = re.compile(COLLECTION_PATTERN[1:-1])
_KEY = re.compile(KEY_PATTERN[1:-1])
_WAIT = re.compile(r"""\s*wait\s*=\s*("?)([0-9]{1,9})\1\s*(?:;.*)?""", re.IGNORECASE)
_TENANT = "default"  # until callers have names
_NO_CONDITIONS = (
    "A write is kept before MongoDB is asked, so it cannot depend on what is there. Leave this out: the last accepted "
    "write wins."
)
_NOT_HONOURED = {  # If-Modified-Since is for reads alone, and to be ignored here (RFC 9110, section 13.1.3)
    b"if-match": ("If-Match", _NO_CONDITIONS),
    b"if-none-match": ("If-None-Match", _NO_CONDITIONS),
    b"if-unmodified-since": ("If-Unmodified-Since", _NO_CONDITIONS),
    b"content-range": ("Content-Range", "No part of a document is taken. Send the whole, or PATCH what changes."),
}


class IdempotencyKey(NamedTuple):
    """A key as the intake knows it."""

    digest: str  # of caller, collection and key
    fingerprint: str  # of method, path, media type and body; ids are made of it

    def record(self, writes: Sequence[Write]) -> str:
        """A digest of the request and of what was taken of it, to be remembered with the key.

        The request alone would not do: what is taken of it depends on the limits of the day too, and a receipt must
        not be given for a document that they left out. The fingerprint is of all bytes, so these only have to be told
        apart, which takes no second look at megabytes.
        """
        taken = [(write.kind, write.id, len(write.body)) for write in writes]
        return blake2b(f"{self.fingerprint} {taken}".encode(), digest_size=16).hexdigest()


class Preference(NamedTuple):
    """How long the caller is ready to wait for MongoDB."""

    wait_s: float  # 0: not at all
    applied: tuple[tuple[bytes, bytes], ...]  # headers that say so


_NO_PREFERENCE = Preference(0, ())


@lru_cache(maxsize=1024)
def namespace_of(database: str, collection: str) -> str:
    """ "database.collection". Raises `Problem` invalid-name."""
    if not _DATABASE.fullmatch(database) or database in RESERVED_DATABASES:
        raise Problem(
            "invalid-name",
            "A database has 1 to 63 letters, digits, _ or -. The names admin, local and config are MongoDB's own, "
            f"and {', '.join(RESERVED_DATABASES)} are paths of this service.",
            "database",
        )
    if not _COLLECTION.fullmatch(collection):
        raise Problem(
            "invalid-name",
            "A collection has 1 to 120 letters, digits, _ . or -, begins with no . or -, nor with system., "
            "and its dots stand alone inside.",
            "collection",
        )
    return f"{database}.{collection}"


class Targets:
    """What the paths of requests name, within the databases that are served.

    A write that MongoDB's user has no right to is refused by MongoDB as a whole command, which says nothing about the
    write: it would be tried for ever, and everything behind it in the log would wait.
    """

    def __init__(self, databases: str) -> None:
        """Names or patterns (`fnmatch`), separated by commas."""
        self._databases = [pattern.strip() for pattern in databases.split(",")]

    def namespace(self, request: Request) -> str:
        """ "database.collection". Raises `Problem` invalid-name."""
        database, collection = request.path_params["database"], request.path_params["collection"]
        namespace = namespace_of(database, collection)
        if not any(fnmatchcase(database, pattern) for pattern in self._databases):
            raise Problem("invalid-name", f"The databases here are {', '.join(self._databases)}.", "database")
        return namespace

    def document(self, request: Request) -> tuple[str, str]:
        """Namespace and normalised id text. Raises `Problem` invalid-name, invalid-id."""
        namespace = self.namespace(request)
        try:
            return namespace, id_text(id_value(request.path_params["id"]))
        except InvalidId as error:
            raise Problem("invalid-id", f"The id {error}.", "id") from None


def headers_of(request: Request) -> dict[bytes, bytes]:
    """Headers by lower-case name; of several equal ones the last."""
    return dict(request.scope["headers"])


def refuse_conditions(headers: dict[bytes, bytes]) -> None:
    """For a write, which would be kept against what its caller asked: under a precondition, which is not looked at, or
    as if a part were the whole. Raises `Problem` invalid-header."""
    if not _NOT_HONOURED.keys().isdisjoint(headers):
        name, remedy = next(_NOT_HONOURED[name] for name in headers if name in _NOT_HONOURED)
        raise Problem("invalid-header", remedy, name)


def refuse_other_sites(request: Request) -> None:
    """For a POST without a body, which a browser sends on behalf of any page that asks it to. Raises `Problem`
    cross-site.

    Browsers say `Sec-Fetch-Site` to https and to this machine only; to others the `Origin` has to do, which is compared
    with the `Host`: behind a proxy that changes it, a page of this service needs https.
    """
    headers = headers_of(request)
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site is not None:
        ours = site in (b"none", b"same-origin")
    else:
        ours = origin is None or origin.partition(b"://")[2].lower() == headers.get(b"host", b"").lower()
    if not ours:
        raise Problem("cross-site", "A page of another site asked for this. Use a program, or a page of this service.")


def query(request: Request, **allowed: Callable[[str], object]) -> dict[str, str]:
    """Query parameters, each known, given once, and taken by its check (whose `ValueError` says what it may be).

    Raises `Problem` unknown-parameter, invalid-parameter.
    """
    raw = request.scope["query_string"]
    if not raw:
        return {}
    given: dict[str, str] = {}
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError:
        raise Problem("invalid-parameter", "The query is not percent-encoded UTF-8.", "query") from None
    for name, value in pairs:
        if name not in allowed:
            known = f"Known here: {', '.join(allowed)}." if allowed else "None is known here."
            raise Problem("unknown-parameter", f"Leave it out. {known}", name[:100])
        if name in given:
            raise Problem("invalid-parameter", "Give it once.", name)
        try:
            allowed[name](value)
        except ValueError as error:
            raise Problem("invalid-parameter", f"{error}.", name) from None
        given[name] = value
    return given


def one_of(*values: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if value not in values:
            raise ValueError(f"It must be {' or '.join(repr(value) for value in values)}")
        return value

    return check


def matching(pattern: str, what: str) -> Callable[[str], str]:
    """`what` says what it must be."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern[1:-1], value):
            raise ValueError(what)
        return value

    return check


def between(least: int, most: int) -> Callable[[str], int]:
    def check(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not least <= int(value) <= most:
            raise ValueError(f"It must be an integer from {least} to {most}")
        return int(value)

    return check


def preference(request: Request, headers: dict[bytes, bytes], max_wait_s: float) -> Preference:
    """From `Prefer: wait=N`, else `?ack=db`. A malformed preference counts as none (RFC 7240). Raises `Problem`."""
    given = query(request, ack=one_of("db", "log"))
    if b"prefer" in headers:
        for name, value in request.scope["headers"]:
            if name != b"prefer":
                continue
            for part in value.decode("latin-1").split(","):
                match = _WAIT.fullmatch(part)
                if match:
                    wait_s = min(int(match[2]), int(max_wait_s))
                    return Preference(wait_s, ((b"preference-applied", b"wait=%d" % wait_s),))
    return Preference(max_wait_s, ()) if given.get("ack") == "db" else _NO_PREFERENCE


def idempotency_key(
    headers: dict[bytes, bytes], request: Request, namespace: str, media_type: str, body: bytes
) -> IdempotencyKey | None:
    """None when the header is not there. Raises `Problem` invalid-header."""
    raw = headers.get(b"idempotency-key")
    if raw is None:
        return None
    key = raw.decode("latin-1")
    if not _KEY.fullmatch(key) or sum(name == b"idempotency-key" for name, _ in request.scope["headers"]) != 1:
        raise Problem("invalid-header", "Give one key of 1 to 255 visible ASCII characters.", "Idempotency-Key")
    asked = f"{request.method}\0{request.scope['path']}\0{media_type}\0".encode("utf-8", "surrogateescape")
    return IdempotencyKey(
        blake2b(f"{_TENANT}\0{namespace}\0{key}".encode(), digest_size=16).hexdigest(),
        blake2b(asked + body, digest_size=16).hexdigest(),
    )

"""A request body: of a known type, within its limit, complete."""

from __future__ import annotations

import re

from starlette.requests import ClientDisconnect, Request

from serve_app.errors import Problem

JSON_TYPES = ("application/json",)
PATCH_TYPES = ("application/merge-patch+json", "application/json")
BATCH_TYPES = ("application/json", "application/x-ndjson")

_PLAIN = {name.encode(): name for name in {*JSON_TYPES, *PATCH_TYPES, *BATCH_TYPES}}
_CHARSET = re.compile(r"""^\s*charset\s*=\s*("?)utf-?8\1\s*$""", re.IGNORECASE)


def media_type(headers: dict[bytes, bytes], allowed: tuple[str, ...]) -> str:
    """The type of the body, one of `allowed`. Raises `Problem` unsupported-media-type."""
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Problem(
            "unsupported-media-type", "Compressed bodies are not taken. Leave Content-Encoding out.", "Content-Encoding"
        )
    raw = headers.get(b"content-type", b"")
    name = _PLAIN.get(raw)
    if name is None:
        name, *parameters = raw.decode("latin-1").split(";")
        name = name.strip().lower()
        if not all(_CHARSET.match(parameter) for parameter in parameters):
            name = ""
    if name not in allowed:
        raise Problem("unsupported-media-type", f"Send {' or '.join(allowed)}, in UTF-8.", "Content-Type")
    return name


async def read_body(request: Request, headers: dict[bytes, bytes], max_bytes: int) -> bytes:
    """All of it. Raises `Problem` body-too-large as soon as that is known, and `ClientDisconnect`."""
    said = headers.get(b"content-length", b"0")
    if said.isdigit() and int(said) > max_bytes:
        raise _too_large(max_bytes)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes)
        if not message.get("more_body", False):
            return b"".join((*parts, part)) if parts else part
        parts.append(part)


def _too_large(max_bytes: int) -> Problem:
    return Problem("body-too-large", f"At most {max_bytes} bytes are taken. Send less at once.")

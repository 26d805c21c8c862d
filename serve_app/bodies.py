"""Request bodies: of a known type, within their limits, complete."""

from __future__ import annotations

import asyncio
import re

from starlette.requests import ClientDisconnect, Request

from serve_app.errors import Problem
from serve_app.parameters import headers_of

MAX_TOGETHER_BYTES = 256 * 1024 * 1024
PATIENCE_S = 60.0

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


class Bodies:
    """Those under way to one replica. Together they are bounded too, in bytes and in time: whoever sends most of a body
    and then nothing would keep that memory for ever, as often as there are connections."""

    def __init__(
        self, max_bytes: int, max_together_bytes: int = MAX_TOGETHER_BYTES, patience_s: float = PATIENCE_S
    ) -> None:
        """`max_bytes`: one body."""
        self._max_bytes = max_bytes
        self._max_together_bytes = max(max_together_bytes, max_bytes)
        self._patience_s = patience_s
        self._together_bytes = 0  # of those that came in pieces and are not whole yet

    async def read(self, request: Request, headers: dict[bytes, bytes]) -> bytes:
        """All of it. Raises `Problem` body-too-large as soon as that is known, body-too-slow, out-of-memory, and
        `ClientDisconnect`."""
        said = headers.get(b"content-length", b"0").lstrip(b"0")  # zeros in front may be more digits than int() takes
        if said.isdigit() and int(said) > self._max_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._patience_s):
                part, is_last = await _part(request)
                if is_last and len(part) <= self._max_bytes:  # nearly always
                    return part
                return await self._gathered(request, part, is_last)
        except TimeoutError:
            raise Problem(
                "body-too-slow", f"It was not whole after {self._patience_s:g} s. Send less at once."
            ) from None

    async def drop(self, request: Request) -> None:
        """Of a request that has no use for one: Serve's server would go on collecting it, without a bound, until the
        answer. Raises as `read`."""
        for name, _ in request.scope["headers"]:
            if name in (b"content-length", b"transfer-encoding"):
                await self.read(request, headers_of(request))
                return

    async def _gathered(self, request: Request, part: bytes, is_last: bool) -> bytes:
        parts: list[bytes] = []
        held = 0
        try:
            while True:
                held += len(part)
                self._together_bytes += len(part)
                if held > self._max_bytes:
                    raise self._too_large()
                if self._together_bytes > self._max_together_bytes:
                    raise Problem("out-of-memory", "Too much is on its way to this replica. Nothing was kept.")
                parts.append(part)
                if is_last:
                    return b"".join(parts)
                part, is_last = await _part(request)
        finally:
            self._together_bytes -= held

    def _too_large(self) -> Problem:
        return Problem("body-too-large", f"At most {self._max_bytes} bytes are taken. Send less at once.")


async def _part(request: Request) -> tuple[bytes, bool]:
    """The next piece, and whether it is the last."""
    message = await request.receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), not message.get("more_body", False)

"""Questions to the running service over HTTP."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any, NamedTuple

# Never through a proxy: HTTP_PROXY is for the registries, the service is on this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Reply(NamedTuple):
    """What the service said."""

    status: int
    body: dict[str, Any]  # empty when it is no JSON object
    retry_after_s: float  # 0 when it did not say


def ask(method: str, url: str, timeout_s: float = 30.0) -> Reply:
    """Any status is an answer. Raises `ConnectionError` when there is none."""
    try:
        with _answer(urllib.request.Request(url, method=method), timeout_s) as answer:  # noqa: S310
            return _reply(answer.status, answer.headers, answer.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ConnectionError(f"{url.partition('?')[0]} does not answer: {error}") from error


def _answer(request: urllib.request.Request, timeout_s: float) -> Any:
    """Of any status. What breaks off in the middle of an error is no answer either."""
    try:
        return _OPENER.open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        return error


def _reply(status: int, headers: Any, raw: bytes) -> Reply:
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    seconds = headers.get("Retry-After") or ""
    return Reply(status, body if isinstance(body, dict) else {}, float(seconds) if seconds.isdigit() else 0.0)


def serves(url: str) -> bool:
    """Whether every buffer answers and has its log; asks for a second at most.

    /readyz asks for room as well, for callers. A full backlog waits for MongoDB, which no restart of Serve brings back.
    """
    buffers = (status(url, timeout_s=1.0) or {}).get("buffers") or ()
    return bool(buffers) and all(buffer.get("log_up") for buffer in buffers)


def status(url: str, timeout_s: float = 1.5) -> dict[str, Any] | None:
    """What GET /v1/status says; None when there is no answer in time or it is not a JSON object."""
    try:
        reply = ask("GET", f"{url}/v1/status", timeout_s)
    except ConnectionError:
        return None
    return reply.body if reply.status == 200 and reply.body else None

"""HAProxy, Serve's front door, as we want it: on loopback, and what it says by itself is of the contract."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

_REFUSED = ("not-ready", 503, "Writes cannot be accepted now", "No replica takes requests at the moment.")
_UNKNOWN = (
    "outcome-unknown",
    504,
    "It is not known whether the write was kept",
    "The replica left before it had answered, or is silent. "
    "Send the same request again under its Idempotency-Key or its id.",
)
_REASONS = {503: "Service Unavailable", 504: "Gateway Timeout"}
PAGES = {502: _UNKNOWN, 503: _REFUSED, 504: _UNKNOWN}
"""What HAProxy wants to say, and what we say. It says 503 when it could reach nobody, so nothing was sent; 502 and 504
when the answer to a request that had been sent did not come. Ray says 500 to all three."""


_REQUESTS = (
    "set-header X-Forwarded-For %[src]",  # who connected; what a client says there is replaced
    # What Serve takes for orders to itself. With a time limit of the caller's it answers 408 for a write that is kept.
    "del-header ^x-request-(timeout-seconds|disconnect-disabled)$ -m reg",
    "del-header ^(x-session-id|serve[-_]multiplexed[-_]model[-_]id)$ -m reg",
    "del-header x-request-id if { req.fhdr(x-request-id) -m reg [^!-~] }",  # Serve decodes it as UTF-8, or answers 500
)


def error_page(status: int) -> str:
    """The whole answer, headers included, that stands for HAProxy's own `status` (502, 503 or 504)."""
    code, answered, title, detail = PAGES[status]
    retry = {"retry_after_s": 1} if answered == 503 else {}
    problem = {"type": f"/problems/{code}", "title": title, "status": answered, "detail": detail, "code": code, **retry}
    body = json.dumps(problem)
    headers = [
        f"HTTP/1.1 {answered} {_REASONS[answered]}",
        "content-type: application/problem+json",
        f"content-length: {len(body)}",
        "cache-control: no-store",
        *(["retry-after: 1"] if retry else []),
        "connection: close",
    ]
    return "\r\n".join([*headers, "", body])


def write_error_pages(folder: Path) -> None:
    """As `502.http`, `503.http` and `504.http`. Raises `OSError`."""
    for status in PAGES:
        (folder / f"{status}.http").write_text(error_page(status), newline="")


def haproxy_wrapper(binary: str, pages: Path) -> str:
    """A shell script that mends HAProxy's configuration, then becomes HAProxy.

    Ray's template binds the statistics and metrics to every interface, and the statistics page can switch servers off
    without a password. The error pages become ours, also where it has not been told of a replica yet and says 404.
    Requests are mended too (`_REQUESTS`).
    The configuration's path is the third argument of every start. The path of the pages, which may hold any character,
    is given as a variable: neither sed nor HAProxy looks for meaning in it.
    """
    edits = ["s/bind \\*:/bind 127.0.0.1:/", "s/bind :/bind 127.0.0.1:/"]
    edits += ["s/http-request return status 404 .*/http-request return status 503 default-errorfiles/"]
    edits += [f's|errorfile {status} .*|errorfile {status} "$PAGES/{status}.http"|' for status in PAGES]
    edits += ["/# ours$/d"]  # of an earlier start on the same file
    edits += [f"/^frontend http_frontend/a\\    http-request {rule} # ours" for rule in _REQUESTS]
    sed = " ".join(f"-e '{edit}'" for edit in edits)
    variable = f"export PAGES={shlex.quote(str(pages))}"
    return f'#!/bin/sh\nsed -i {sed} "$3"\n{variable}\nexec {shlex.quote(binary)} "$@"\n'

"""HTTP answers, ready as bytes; every one carries the same security headers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson
from starlette.responses import Response

from serve_app.errors import Problem, problem_of

Headers = Sequence[tuple[bytes, bytes]]

JSON = b"application/json"
PROBLEM = b"application/problem+json"
SECURITY: Headers = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


class Answer(Response):
    """A response without the header handling it does not need: a third of the time of its parent."""

    def __init__(self, status: int, body: bytes = b"", media_type: bytes = JSON, headers: Headers = ()) -> None:
        self.status_code = status
        self.body = body
        self.background = None
        self.raw_headers = [*SECURITY, *headers]
        if status != 204:
            self.raw_headers += ((b"content-type", media_type), (b"content-length", str(len(body)).encode()))


def json_answer(status: int, content: Any, headers: Headers = ()) -> Answer:
    return Answer(status, orjson.dumps(content), JSON, headers)


def problem_answer(error: Exception) -> Answer:
    """The problem document for any exception."""
    problem: Problem = problem_of(error)
    headers = [*problem.headers]
    if problem.retry_after is not None:
        headers.append((b"retry-after", str(problem.retry_after).encode()))
    return Answer(problem.status, orjson.dumps(problem.document()), PROBLEM, headers)


def rfc3339(seconds: float) -> str:
    """Wall clock seconds since 1970 as UTC text with milliseconds."""
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return f"{_second(whole)}.{milliseconds:03}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:-6]

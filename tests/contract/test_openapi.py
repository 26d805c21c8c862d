"""The OpenAPI document against the service itself: every check Schemathesis has, in process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings

from actors.core.document import Kind, Write, encode_writes
from actors.core.errors import QueueFull
from actors.core.ports import DeadLetter
from serve_app.api import make_app
from serve_app.limits import EdgeLimits

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))
from fake_intake import FakeIntake

LETTER = DeadLetter("0/1-0/0", encode_writes([Write(Kind.DELETE, "a.b", "c", b"")]), "why", 1, 0.0, 0.0)

BOUNDED = settings(
    max_examples=40, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


class Forgetful(FakeIntake):
    """Every case is a new caller: keys that two cases happen to share are not reused keys."""

    async def append_once(self, key: str, fingerprint: str, writes: Any) -> Any:
        return await self.append(writes), True


def edge(failing: Exception | None = None) -> Any:
    intake = Forgetful()
    intake.failing = failing
    intake.letters = {LETTER.id: LETTER}
    app = make_app(intake, EdgeLimits(max_wait_s=1, max_batch_items=10))

    async def as_function(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return as_function


calm = schemathesis.openapi.from_asgi("/openapi.json", edge())
flooded = schemathesis.openapi.from_asgi("/openapi.json", edge(QueueFull("full", 1.5)))


@calm.parametrize()
@BOUNDED
def test_the_service_is_as_documented(case: Any) -> None:
    case.call_and_validate()


@flooded.parametrize()
@BOUNDED
def test_a_full_queue_is_as_documented(case: Any) -> None:
    """Every answer is a documented one also when nothing can be kept; 503 is no server error then, 500 would be."""
    response = case.call_and_validate(excluded_checks=[schemathesis.checks.not_a_server_error])
    assert response.status_code not in (500, 502)

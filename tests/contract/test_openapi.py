"""The OpenAPI document against the service itself: every check Schemathesis has, in process."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator

from actors.adapters.memory import MemoryDeadLetters
from actors.core.dead_letter import DeadLetter
from actors.core.document import Kind, Write, encode_writes
from actors.core.errors import QueueFull
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


class Undying(MemoryDeadLetters):
    """Every case meets the letter again."""

    async def remove(self, ids: Any) -> int:
        return sum([await self.get(id_) is not None for id_ in ids])


def edge(failing: Exception | None = None) -> Any:
    intake = Forgetful()
    intake.failing = failing
    intake.shelf = Undying()
    asyncio.run(intake.shelf.add([LETTER]))
    app = make_app(intake, EdgeLimits(max_wait_s=1, max_batch_items=10, allowed_hosts="testserver"))

    async def as_function(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return as_function


calm = schemathesis.openapi.from_asgi("/openapi.json", edge())
flooded = schemathesis.openapi.from_asgi("/openapi.json", edge(QueueFull("full", 1.5)))


def is_sound_after_all(case: Any, response: Any) -> bool:
    """Schemathesis breaks one branch of an `anyOf` and takes the result for wrong, although another branch allows it.

    True when nothing but the body was meant to be wrong, and jsonschema finds right what was kept of that body.
    """
    negative = [place for place, component in case.meta.components.items() if component.mode.is_negative]
    if case.media_type != "application/json" or [place.value for place in negative] != ["body"]:
        return False
    return response.status_code < 300 and is_right_as_kept(case, response)


def is_right_as_kept(case: Any, response: Any) -> bool:
    """The body; of a batch each document but those that the answer refuses, one by one."""
    raw = case.operation.schema.raw_schema
    body = raw["paths"][case.path][case.method.lower()]["requestBody"]["content"]["application/json"]["schema"]

    def is_right(value: Any, schema: Any) -> bool:
        return bool(Draft202012Validator({**schema, "components": raw["components"]}).is_valid(value))

    if body.get("type") != "array":
        return is_right(case.body, body)
    told = response.json()["items"]
    return is_right(case.body, {**body, "items": True}) and all(
        "error" in answer or is_right(item, body["items"]) for item, answer in zip(case.body, told, strict=True)
    )


@calm.parametrize()
@BOUNDED
def test_the_service_is_as_documented(case: Any) -> None:
    response = case.call()
    excluded = [schemathesis.checks.negative_data_rejection] if is_sound_after_all(case, response) else []
    case.validate_response(response, excluded_checks=excluded)


def test_a_batch_is_judged_document_by_document() -> None:
    """Above only chance leads there: a batch of which one document is wrong is kept without that one."""
    operation = calm["/v1/{database}/{collection}/batch"]["POST"]
    case = operation.Case(
        path_parameters={"database": "shop", "collection": "orders"},
        body=[{}, {"_id": None}],
        media_type="application/json",
    )
    response = case.call()
    assert response.status_code == 202
    assert is_right_as_kept(case, response)
    case.body.reverse()
    assert not is_right_as_kept(case, response), "the wrong one was kept"


@flooded.parametrize()
@BOUNDED
def test_a_full_queue_is_as_documented(case: Any) -> None:
    """Every answer is a documented one also when nothing can be kept; 503 is no server error then, 500 would be."""
    response = case.call_and_validate(excluded_checks=[schemathesis.checks.not_a_server_error])
    assert response.status_code not in (500, 502)

"""One table from error to answer."""

from __future__ import annotations

import logging

import pytest
from edge import EdgeClient, problem

from actors.core import errors
from actors.core.errors import SpillwayError
from serve_app.errors import FAULTS, Problem, problem_of

STATUS = {
    "queue-full": 503, "draining": 503, "log-unavailable": 503, "buffer-unavailable": 503, "writer-unavailable": 503,
    "mongodb-unavailable": 503, "fenced": 503, "unsafe-log": 503, "outcome-unknown": 504, "idempotency-key-reused": 422,
    "body-too-large": 413,
}  # fmt: skip
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, SpillwayError) and kind.code in STATUS
]
ROUTES = [
    ("GET", "/api/data"),
    ("POST", "/v1/a/b"),
    ("POST", "/v1/a/b/batch"),
    ("GET", "/v1/a/b/c"),
    ("GET", "/v1/dead-letters"),
]


def test_every_error_that_crosses_the_edge_has_a_status() -> None:
    assert {kind.code for kind in KINDS} == set(STATUS)
    assert {code: FAULTS[code].status for code in STATUS} == STATUS


@pytest.mark.parametrize("kind", KINDS)
async def test_every_error_is_answered_by_its_problem(kind: type[SpillwayError]) -> None:
    for method, path in ROUTES:
        if kind is errors.IdempotencyConflict and method == "GET":
            continue
        client = EdgeClient()
        client.intake.failing = kind("what happened", 4.01)
        response = await client.send_json(method, path, '[{"a":1}]' if path.endswith("batch") else '{"a":1}')
        document = problem(response, STATUS[kind.code], kind.code)
        assert document["detail"] == "what happened"
        if STATUS[kind.code] == 503:
            assert (response.headers["retry-after"], document["retry_after_s"]) == ("5", 5)
        else:
            assert "retry-after" not in response.headers


async def test_a_replica_without_memory_does_not_know_what_a_write_became_and_has_changed_nothing_by_a_read() -> None:
    for method, path in ROUTES:
        client = EdgeClient()
        client.intake.failing = MemoryError()  # type: ignore[assignment]
        response = await client.send_json(method, path, '[{"a":1}]' if path.endswith("batch") else '{"a":1}')
        if path == "/api/data" or method == "POST":
            problem(response, 504, "outcome-unknown")
        else:
            problem(response, 503, "out-of-memory")


@pytest.mark.parametrize(("given", "whole"), [(0.0, 1), (0.2, 1), (1.0, 1), (1.01, 2), (59.5, 60), (None, 1)])
def test_retry_after_is_whole_seconds_rounded_up(given: float | None, whole: int) -> None:
    assert Problem("queue-full", "x", retry_after_s=given).retry_after == whole


def test_an_error_out_of_an_actor_is_told_without_its_traceback() -> None:
    class RemoteQueueFull(errors.QueueFull):
        """As Ray raises it: also ours, with the actor's traceback as its text."""

        def __str__(self) -> str:
            return "Traceback (most recent call last): ..."

    assert problem_of(RemoteQueueFull("full")).detail == "full"
    assert "Traceback" not in problem_of(RemoteQueueFull()).detail


async def test_what_nobody_foresaw_is_logged_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    client = EdgeClient()
    client.intake.failing = RuntimeError("secret")
    with caplog.at_level(logging.ERROR):
        document = problem(await client.post("/v1/a/b", json={}), 500, "internal")
    assert "secret" not in str(document)
    assert document["instance"].startswith("urn:uuid:")
    assert document["instance"] in caplog.text
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/v1/a/b", "POST"), ("POST", "/v1/a/b/c", "DELETE, GET, PATCH, PUT"),
        ("PUT", "/v1/a/b/batch", "POST"),
        ("POST", "/v1/receipts/x", "GET"), ("PUT", "/v1/dead-letters/x", "DELETE, GET"), ("POST", "/readyz", "GET"),
        ("OPTIONS", "/v1/status", "GET"), ("POST", "/docs", "GET"), ("DELETE", "/v1/dead-letters/x/replay", "POST"),
        ("GET", "/v1/dead-letters/replay", "POST"), ("DELETE", "/v1/dead-letters/discard", "POST"),
    ],
)  # fmt: skip
async def test_methods_that_are_not_possible(method: str, path: str, allow: str) -> None:
    client = EdgeClient()
    response = await client.request(method, path)
    problem(response, 405, "method-not-allowed")
    assert response.headers["allow"] == allow
    assert client.intake.appends == []


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/api/data/",
        "/v1",
        "/v1/",
        "/v1/a",
        "/v1/a/",
        "/v1//b",
        "/v1/a/b/",
        "/v1/receipts",
        "/v2/a/b",
        "/v1/status/x",
        "/metrics/x",
    ],
)
async def test_addresses_with_nothing_there(path: str) -> None:
    client = EdgeClient()
    for method in ("GET", "POST", "PUT"):
        response = await client.send_json(method, path, "{}")
        problem(response, 404, "not-found") if response.status_code != 405 else problem(
            response, 405, "method-not-allowed"
        )
    assert client.intake.appends == []


async def test_head_does_not_write() -> None:
    client = EdgeClient()
    assert (await client.head("/api/data")).status_code == 405
    assert client.intake.appends == []

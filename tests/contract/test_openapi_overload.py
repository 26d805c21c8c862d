"""The OpenAPI document holds when the service cannot: full, away, slow, in doubt, over a quota; on every route.

A 503 or 504 that the document names is an answer of the contract. An undocumented status, or a 500, is a fault.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings

from actors.core.errors import (
    BufferUnavailable,
    DatabaseUnavailable,
    Draining,
    IdempotencyFull,
    LogUnavailable,
    OutcomeUnknown,
    QueueFull,
    SpillwayError,
    WriterUnavailable,
)
from serve_app.api import make_app
from serve_app.errors import FAULTS
from serve_app.limits import EdgeLimits

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))
from fake_intake import UP, FakeIntake

BOUNDED = settings(
    max_examples=6, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
AWAY = UP | {"ready": False, "mongodb": "down", "redis": "down", "documents": {}, "writer": {"last_error": "away"}}
AWAY |= {"commands": dict.fromkeys(("last_second", "worst_window", "limit")), "batch": {"mean_writes": None}}


class Slow(FakeIntake):
    """It answers nothing before everybody's patience has ended."""

    async def append(self, writes: Any) -> Any:
        await asyncio.sleep(3_600)

    async def append_once(self, key: str, fingerprint: str, writes: Any) -> Any:
        await asyncio.sleep(3_600)


class KeysFull(FakeIntake):
    """It remembers as many keys as it may."""

    async def append_once(self, key: str, fingerprint: str, writes: Any) -> Any:
        raise IdempotencyFull


def failing(error: SpillwayError) -> Callable[[], FakeIntake]:
    def make() -> FakeIntake:
        intake = FakeIntake()
        intake.failing = error
        intake.up = AWAY
        return intake

    return make


def in_doubt() -> FakeIntake:
    """What changes something may have done so. What only looks never says that: it has nothing to keep."""
    intake = FakeIntake()
    intake.failing_append = intake.failing_forget = OutcomeUnknown("no answer", 1.0)
    return intake


TROUBLES: dict[str, tuple[Callable[[], FakeIntake], dict[str, Any]]] = {
    "full": (failing(QueueFull("full", 1.5)), {}),
    "draining": (failing(Draining(retry_after_s=2.0)), {}),
    "no log": (failing(LogUnavailable("Redis refuses: OOM", 2.0)), {}),
    "no buffer": (failing(BufferUnavailable("restarting", 1.0)), {}),
    "no writer": (failing(WriterUnavailable()), {}),
    "no MongoDB": (failing(DatabaseUnavailable("down", 1.0)), {}),
    "doubt": (in_doubt, {}),
    "slow": (Slow, {"request_timeout_s": -0.99}),  # a second of grace comes on top
    "keys full": (KeysFull, {}),
    "over quota": (FakeIntake, {"quota_per_s": 1e-6, "quota_burst": 1}),
    "another name": (FakeIntake, {"allowed_hosts": ""}),
}
DOCUMENTS = "/v1/{database}/{collection}"


def app(trouble: str) -> Any:
    make, limits = TROUBLES[trouble]
    limits = {"allowed_hosts": "testserver"} | limits  # as Schemathesis names us
    edge = make_app(make(), EdgeLimits(max_wait_s=1, max_batch_items=10, **limits))

    async def as_function(scope: Any, receive: Any, send: Any) -> None:
        await edge(scope, receive, send)

    return as_function


def under(trouble: str) -> Callable[..., None]:
    """The test of every route under `trouble`."""

    @schemathesis.openapi.from_asgi("/openapi.json", app(trouble)).parametrize()
    @BOUNDED
    def test(case: Any) -> None:
        # A request that is wrong in itself may be told so or told of the trouble, whichever is noticed first.
        checks = schemathesis.checks
        excluded = [checks.not_a_server_error, checks.negative_data_rejection, checks.positive_data_acceptance]
        response = case.call_and_validate(excluded_checks=excluded)
        assert response.status_code not in (500, 502)
        if response.status_code in (429, 503):
            assert int(response.headers["retry-after"][0]) >= 1
        if response.status_code >= 400 and case.method != "HEAD":
            document = response.json()
            assert FAULTS[document["code"]].status == response.status_code

    return test


test_a_full_queue = under("full")
test_a_service_that_stops = under("draining")
test_a_log_that_is_away = under("no log")
test_a_buffer_that_is_away = under("no buffer")
test_a_writer_that_is_away = under("no writer")
test_a_database_that_is_away = under("no MongoDB")
test_a_log_in_doubt = under("doubt")
test_a_log_that_is_slow = under("slow")
test_a_table_of_keys_that_is_full = under("keys full")
test_a_caller_over_its_quota = under("over quota")
test_a_name_that_any_site_might_have = under("another name")


@pytest.mark.parametrize(
    ("trouble", "method", "path", "code"),
    [
        ("full", "POST", DOCUMENTS, "queue-full"),
        ("draining", "POST", DOCUMENTS, "draining"),
        ("no log", "POST", DOCUMENTS, "log-unavailable"),
        ("no log", "GET", "/readyz", "not-ready"),
        ("no log", "GET", "/api/stats", "count-unknown"),
        ("no buffer", "POST", DOCUMENTS, "buffer-unavailable"),
        ("no writer", "POST", DOCUMENTS, "writer-unavailable"),
        ("no MongoDB", "POST", DOCUMENTS, "mongodb-unavailable"),
        ("doubt", "POST", DOCUMENTS, "outcome-unknown"),
        ("slow", "POST", DOCUMENTS, "outcome-unknown"),
        ("keys full", "POST", DOCUMENTS, "idempotency-full"),
        ("over quota", "POST", DOCUMENTS, "quota-exceeded"),
        ("another name", "POST", DOCUMENTS, "unknown-host"),
    ],
)
def test_requests_like_those_above_meet_the_trouble(trouble: str, method: str, path: str, code: str) -> None:
    """Else the sieve lets everything through unseen."""
    seen: set[str] = set()

    @given(case=schemathesis.openapi.from_asgi("/openapi.json", app(trouble))[path][method].as_strategy())
    @settings(BOUNDED, max_examples=30)
    def ask(case: Any) -> None:
        response = case.call()
        if response.status_code >= 400:
            seen.add(response.json()["code"])

    ask()
    assert code in seen

"""The quota of a caller: what is granted, who a caller is, and what the answer says."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from edge import EdgeClient, problem
from hypothesis import given
from hypothesis import strategies as st
from loop_clock import stop_clock

from actors.adapters.clock import settle
from actors.core.errors import (
    BufferUnavailable,
    Draining,
    Fenced,
    LogUnavailable,
    OutcomeUnknown,
    QueueFull,
    SpillwayError,
)
from actors.core.pacing import SECOND_NS
from serve_app.quota import Quota, networks

PATH = "/v1/shop/orders"


def test_a_burst_at_once_and_then_the_rate() -> None:
    quota = Quota(10.0, 5, 100)
    assert [quota.charge("a", 1, 0).granted for _ in range(6)] == [True] * 5 + [False]
    assert not quota.charge("a", 1, SECOND_NS // 10 - 1).granted
    assert quota.charge("a", 1, SECOND_NS // 10).granted
    assert not quota.charge("a", 1, SECOND_NS // 10).granted


def test_a_refusal_costs_nothing_and_says_how_long_to_wait() -> None:
    quota = Quota(10.0, 5, 100)
    quota.charge("a", 5, 0)
    for _ in range(100):
        assert quota.charge("a", 3, 0)[:3] == (False, 0, pytest.approx(0.3))
    assert quota.charge("a", 3, 3 * SECOND_NS // 10).granted


def test_callers_do_not_share() -> None:
    quota = Quota(10.0, 5, 100)
    assert quota.charge("a", 5, 0).granted
    assert quota.charge("b", 5, 0).granted
    assert not quota.charge("a", 1, 0).granted


def test_a_batch_above_the_burst_needs_the_whole_quota_and_is_owed() -> None:
    quota = Quota(10.0, 5, 100)
    assert quota.charge("a", 20, 0).granted
    assert not quota.charge("a", 1, SECOND_NS).granted
    assert quota.charge("a", 1, 2 * SECOND_NS).granted
    assert not quota.charge("a", 20, 2 * SECOND_NS).granted


@pytest.mark.parametrize("uptime_s", [600, 3_600, 86_400, 864_000, 40 * 86_400, 100 * 86_400])
@pytest.mark.parametrize(("per_s", "burst", "writes"), [(3.0, 1, 1), (30.0, 2_000, 2_000), (300.0, 100, 1_000)])
def test_a_whole_quota_is_enough_for_itself_however_long_the_machine_is_up(
    uptime_s: int, per_s: float, burst: int, writes: int
) -> None:
    assert Quota(per_s, burst, 10).charge("a", writes, uptime_s * SECOND_NS).granted


@given(
    st.lists(st.tuples(st.integers(0, SECOND_NS), st.integers(1, 30)), max_size=60),
    st.sampled_from([1.0, 7.5, 100.0]),
    st.integers(1, 30),
)
def test_no_stretch_of_time_holds_more_than_burst_and_rate_allow(
    asks: list[tuple[int, int]], per_s: float, burst: int
) -> None:
    quota = Quota(per_s, burst, 10)
    now, granted = 0, []
    for gap, writes in asks:
        now += gap
        writes = min(writes, burst)
        if quota.charge("a", writes, now).granted:
            granted.append((now, writes))
    for i, (start, _) in enumerate(granted):
        total = 0
        for at, writes in granted[i:]:
            total += writes
            assert total <= burst + per_s * (at - start) / SECOND_NS + 1e-6


@given(st.lists(st.tuples(st.integers(0, SECOND_NS), st.integers(1, 12), st.booleans()), max_size=40))
def test_what_is_given_back_at_once_was_never_asked_for(asks: list[tuple[int, int, bool]]) -> None:
    quota, plain, now = Quota(10.0, 10, 10), Quota(10.0, 10, 10), 0
    for gap, writes, is_kept in asks:
        now += gap
        if is_kept:
            assert quota.charge("a", writes, now) == plain.charge("a", writes, now)
        elif (charge := quota.charge("a", writes, now)).granted:
            given_back = quota.give_back("a", writes, charge.since, now)
            assert given_back.remaining == plain.charge("a", 0, now).remaining


@pytest.mark.parametrize("begun", [1, 2, 4, 6])
@pytest.mark.parametrize("kept", [0, 1, 3, 4])
def test_what_is_given_back_late_is_not_what_time_has_paid(begun: int, kept: int) -> None:
    """A whole quota does not become more by one request that was begun, saved up and used on top of a burst."""
    quota = Quota(1.0, 10, 10)
    charge = quota.charge("a", begun, 0)
    if kept:
        quota.charge("a", kept, 3 * SECOND_NS)
    assert quota.give_back("a", begun, charge.since, 3 * SECOND_NS)[:3] == (True, 10 - kept, kept)


def test_what_is_given_back_to_a_caller_in_debt_is_all_of_it_however_late() -> None:
    quota = Quota(1.0, 10, 10)
    quota.charge("a", 6, 0)
    charge = quota.charge("a", 4, 0)
    assert quota.give_back("a", 4, charge.since, 5 * SECOND_NS)[:3] == (True, 9, 1.0)


def test_whoever_is_forgotten_is_given_nothing() -> None:
    quota = Quota(1.0, 2, 1)
    charge = quota.charge("a", 2, 0)
    quota.charge("b", 2, 0)
    assert quota.give_back("a", 2, charge.since, 0).remaining == 2
    assert len(quota) == 1
    assert not quota.charge("b", 1, 0).granted


@given(st.lists(st.tuples(st.integers(0, SECOND_NS), st.integers(1, 10)), max_size=40))
def test_what_it_says_is_true(asks: list[tuple[int, int]]) -> None:
    """`remaining` are granted at once, one more is not; after `wait_s` the refused is granted, and not before."""
    quota, now = Quota(10.0, 10, 10), 0
    for gap, writes in asks:
        now += gap
        charge = quota.charge("a", writes, now)
        if charge.granted:
            assert not quota.charge("a", charge.remaining + 1, now).granted or charge.remaining == 10
        else:
            wait_ns = charge.wait_s * SECOND_NS
            assert not quota.charge("a", writes, now + int(wait_ns * 0.99)).granted
            now += int(wait_ns) + 1
            assert quota.charge("a", writes, now).granted


def test_the_table_is_bounded_and_forgets_the_caller_seen_longest_ago() -> None:
    quota = Quota(1.0, 1, 3)
    for caller in "abcabcde":
        quota.charge(caller, 1, 0)
    assert len(quota) == 3
    assert not quota.charge("c", 1, 0).granted
    assert quota.charge("b", 1, 0).granted, "forgotten, so anew"


def test_networks_are_addresses_and_ranges() -> None:
    assert [str(network) for network in networks("127.0.0.1, 10.0.0.0/8,::1")] == [
        "127.0.0.1/32", "10.0.0.0/8", "::1/128",
    ]  # fmt: skip
    assert networks("") == []
    with pytest.raises(ValueError):
        networks("localhost")


async def post(edge: EdgeClient, peer: str = "192.0.2.1", count: int = 1, **headers: str) -> Any:
    """From the address `peer`; more than one as a batch."""
    edge._transport.client = (peer, 1)  # type: ignore[attr-defined]
    body = "{}" if count == 1 else "[" + ",".join(["{}"] * count) + "]"
    return await edge.send_json("POST", PATH if count == 1 else f"{PATH}/batch", body, **headers)


async def test_without_a_quota_nothing_is_said_or_refused() -> None:
    edge = EdgeClient()
    answers = [await post(edge, count=10) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {202}
    assert "ratelimit" not in answers[0].headers


async def test_beyond_its_quota_a_caller_is_refused_and_nothing_is_kept() -> None:
    edge = EdgeClient(quota_per_s=10.0, quota_burst=10)
    first = await post(edge, count=8)
    assert first.status_code == 202
    assert first.headers["ratelimit-policy"] == '"writes";q=10;w=1'
    assert first.headers["ratelimit"] == '"writes";r=2;t=1'
    kept = len(edge.intake.writes)
    refused = await post(edge, count=7)
    problem(refused, 429, "quota-exceeded")
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit"] == '"writes";r=2;t=1'
    assert len(edge.intake.writes) == kept
    assert (await post(edge, "192.0.2.2", count=7)).status_code == 202, "others are not touched"
    edge.clock.now += int(refused.headers["retry-after"])
    assert (await post(edge, count=7)).status_code == 202


async def test_the_wait_is_rounded_up_to_whole_seconds() -> None:
    edge = EdgeClient(quota_per_s=0.5, quota_burst=1)
    await post(edge)
    edge.clock.now += 0.5
    refused = await post(edge)
    assert (refused.headers["retry-after"], refused.json()["retry_after_s"]) == ("2", 2)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "GET"])
async def test_every_way_to_write_counts(method: str) -> None:
    edge = EdgeClient(quota_per_s=1.0, quota_burst=1)
    assert (await post(edge)).status_code == 202
    path = "/api/data" if method == "GET" else PATH if method == "POST" else f"{PATH}/1"
    kept = len(edge.intake.writes)
    problem(await edge.send_json(method, path, '{"a": 1}'), 429, "quota-exceeded")
    assert len(edge.intake.writes) == kept
    assert (await edge.get("/v1/status")).status_code == 200, "only writes count"


async def test_what_is_refused_for_itself_costs_nothing() -> None:
    edge = EdgeClient(quota_per_s=1.0, quota_burst=1)
    for _ in range(5):
        assert (await edge.send_json("POST", PATH, "{")).status_code == 400
    assert (await post(edge)).status_code == 202


WAYS = [("POST", PATH), ("POST", f"{PATH}/batch"), ("DELETE", f"{PATH}/1"), ("GET", "/api/data")]


async def ask(edge: EdgeClient, method: str, path: str, **headers: str) -> Any:
    """Five writes at most."""
    return await edge.send_json(method, path, "[{},{},{},{},{}]" if path.endswith("batch") else "{}", **headers)


@pytest.mark.parametrize(("method", "path"), WAYS)
@pytest.mark.parametrize("error", [QueueFull, Draining, LogUnavailable, BufferUnavailable, Fenced])
async def test_what_the_service_refuses_costs_nothing(error: type[SpillwayError], method: str, path: str) -> None:
    edge = EdgeClient(quota_per_s=0.001, quota_burst=5)
    edge.intake.failing_append = error()
    for _ in range(6):
        problem(await ask(edge, method, path), 503, error.code)
    edge.intake.failing_append = None
    assert (await ask(edge, "GET", "/api/data")).headers["ratelimit"] == '"writes";r=0;t=5000'


@pytest.mark.parametrize(("method", "path"), WAYS)
async def test_a_turn_that_does_not_come_costs_nothing(
    method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = stop_clock(monkeypatch)
    edge = EdgeClient(at_once=1, quota_per_s=0.001, quota_burst=5)
    edge.intake.held = asyncio.Event()
    edge._transport.client = ("192.0.2.1", 1)  # type: ignore[attr-defined]
    holds_it = asyncio.create_task(edge.delete(f"{PATH}/1"))
    await settle()
    edge._transport.client = ("192.0.2.2", 1)  # type: ignore[attr-defined]
    for _ in range(6):
        asked = asyncio.create_task(ask(edge, method, path))
        await settle()
        await advance(5.2)
        problem(await asked, 503, "overloaded")
    edge.intake.held.set()
    await holds_it
    assert (await ask(edge, "GET", "/api/data")).status_code == 200


@pytest.mark.parametrize("error", [OutcomeUnknown(), TimeoutError(), RuntimeError("broken")])
@pytest.mark.parametrize(("method", "path"), WAYS)
async def test_what_may_have_been_kept_costs(error: Exception, method: str, path: str) -> None:
    edge = EdgeClient(quota_per_s=0.001, quota_burst=5)
    edge.intake.failing_append = error
    assert (await ask(edge, method, path)).status_code in (500, 504)
    edge.intake.failing_append = None
    problem(await ask(edge, "GET", "/api/data"), 429, "quota-exceeded")


async def test_a_repetition_under_its_key_costs_nothing_and_says_so() -> None:
    edge = EdgeClient(quota_per_s=0.001, quota_burst=10)
    batch = "POST", f"{PATH}/batch"
    assert (await ask(edge, *batch, idempotency_key="k")).headers["ratelimit"] == '"writes";r=5;t=5000'
    for _ in range(3):
        again = await ask(edge, *batch, idempotency_key="k")
        assert (again.status_code, again.headers["idempotency-replayed"]) == (202, "true")
        assert again.headers["ratelimit"] == '"writes";r=5;t=5000'
        problem(await ask(edge, "POST", PATH, idempotency_key="k"), 422, "idempotency-key-reused")
    assert (await ask(edge, "GET", "/api/data")).status_code == 200
    problem(await ask(edge, *batch, idempotency_key="k2"), 429, "quota-exceeded")


async def test_only_a_trusted_proxy_may_name_the_caller() -> None:
    edge = EdgeClient(quota_per_s=1.0, quota_burst=1, quota_caller_header="X-Caller", trusted_proxies="10.0.0.0/8")
    assert (await post(edge, "10.0.0.1", x_caller="anna")).status_code == 202
    assert (await post(edge, "10.0.0.2", x_caller="anna")).status_code == 429, "the same caller over another proxy"
    assert (await post(edge, "10.0.0.1", x_caller="bert")).status_code == 202
    assert (await post(edge, "192.0.2.1", x_caller="one")).status_code == 202
    assert (await post(edge, "192.0.2.1", x_caller="two")).status_code == 429, "who names itself is not believed"


async def test_a_name_that_a_caller_sends_itself_does_not_count_beside_the_proxys() -> None:
    edge = EdgeClient(quota_per_s=1.0, quota_burst=1, quota_caller_header="X-Caller", trusted_proxies="10.0.0.0/8")
    edge._transport.client = ("10.0.0.1", 1)  # type: ignore[attr-defined]
    statuses = []
    for own in ("one", "two"):
        headers = [("content-type", "application/json"), ("x-caller", own), ("x-caller", "anna")]  # as a proxy appends
        statuses.append((await edge.post(PATH, content="{}", headers=headers)).status_code)
    assert statuses == [202, 429]


async def test_without_the_setting_no_header_names_anybody() -> None:
    edge = EdgeClient(quota_per_s=1.0, quota_burst=1)
    assert (await post(edge, "127.0.0.1", x_forwarded_for="192.0.2.7")).status_code == 202
    assert (await post(edge, "127.0.0.1", x_forwarded_for="192.0.2.8")).status_code == 429

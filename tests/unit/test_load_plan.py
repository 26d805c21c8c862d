"""What a scenario will do, what it needs of the machine, and the command for what is missing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loadtests import preflight
from loadtests.preflight import LOCAL_IPS, Machine, lacks, local_ips, need_of
from loadtests.scenario import Plan, Step, plan_of, seconds_of

GIB = 1024**3
LARGE = Machine(
    hard_files=-1, first_port=32768, last_port=60999, memory_bytes=64 * GIB, disk_bytes=99 * GIB, loopback=True
)


def inspected(**more: Any) -> dict[str, Any]:
    """A spike and a later open step, as k6 describes them."""
    stages = [{"duration": "1m0s", "target": 5000}, {"duration": "30s", "target": 10000}]
    return {
        "maxVUs": 10_100,
        "noConnectionReuse": True,
        "scenarios": {
            "later": {
                "executor": "constant-arrival-rate",
                "rate": 50,
                "timeUnit": "1s",
                "duration": "10s",
                "startTime": "1m40s",
                "maxVUs": 100,
            },
            "spike": {"executor": "ramping-vus", "startTime": None, "stages": stages, "env": {"THINK": "10-15"}},
        },
    } | more


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1m30s", 90.0), ("2h1m35s", 7295.0), ("500ms", 0.5), ("1.5s", 1.5), ("0s", 0.0), (None, 0.0), ("", 0.0)],
)
def test_durations(text: str | None, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["90", "1 m", "m", "1d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        seconds_of(text)


def test_a_plan_has_its_steps_in_the_order_of_time() -> None:
    plan = plan_of("spike", inspected())
    assert [step.name for step in plan.steps] == ["spike", "later"]
    assert plan.steps[0] == Step("spike", 0.0, 90.0, 10_000, None, (10.0, 15.0))
    assert plan.steps[1] == Step("later", 100.0, 10.0, 100, 50.0)
    assert (plan.seconds, plan.users, plan.fresh_connections, plan.open_model) == (110.0, 10_100, True, True)


def test_a_step_says_how_many_answers_it_wants() -> None:
    stress = {"executor": "constant-vus", "vus": 1200, "duration": "1m0s"}
    thinking = {"THINK": "0.8-0.8", "WANTED_PER_S": "1000"}
    plan = plan_of("stress", {"maxVUs": 1200, "scenarios": {"users1200": stress | {"env": thinking}, "more": stress}})
    assert [step.wanted_per_s for step in plan.steps] == [None, 1000.0]


def test_a_form_of_k6_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown form"):
        plan_of("spike", {"scenarios": {}})


K6_BYTES = 3 * GIB


def plan(users: int = 10_000, think_s: float = 12.5, fresh: bool = True, seconds: float = 100.0) -> Plan:
    return Plan("x", (Step("x", 0.0, seconds, users, None, (think_s, think_s)),), users, fresh)


def test_fresh_connections_need_the_ports_of_a_minute() -> None:
    assert need_of(plan(), K6_BYTES).ports == 10_000 + 800 * preflight.TIME_WAIT_S
    assert need_of(plan(seconds=10.0), K6_BYTES).ports == 10_000 + 800 * 10
    assert need_of(plan(fresh=False), K6_BYTES).ports == 10_000


def test_users_who_do_not_think_are_bounded_by_what_any_service_answers() -> None:
    disk = need_of(plan(think_s=0.0), K6_BYTES).disk_bytes - preflight.RESERVE_BYTES
    assert disk == preflight.BUSIEST_PER_S * 100 * preflight.RECORDED_REQUEST_BYTES


def memory(total: int, available: int) -> Any:
    return lambda: SimpleNamespace(total=total, available=available)


def test_many_users_take_all_that_k6_may_have_and_few_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = preflight.RESERVE_BYTES
    assert need_of(plan(), 9 * GIB).memory_bytes == 9 * GIB
    assert need_of(plan(users=500), 9 * GIB).memory_bytes < GIB
    for total, available, limit in ((24, 20, 12 * GIB), (24, 10, 10 * GIB - reserve), (24, 1, 10_000 * 256 * 1024)):
        monkeypatch.setattr(preflight.psutil, "virtual_memory", memory(total * GIB, available * GIB))
        assert preflight.k6_limit_bytes(10_000) == limit


def test_the_judge_begins_when_k6_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """So two hours of 10,000 users fit where the larger of both does, and k6's limit alone refuses no run."""
    judged = 800 * 7200 * preflight.JUDGED_REQUEST_BYTES
    need = need_of(plan(seconds=7200.0), K6_BYTES)
    assert need.memory_bytes == judged + preflight.RESERVE_BYTES > K6_BYTES
    monkeypatch.setattr(preflight.psutil, "virtual_memory", memory(24 * GIB, 4 * GIB))
    tight = need_of(plan(), preflight.k6_limit_bytes(10_000))
    assert lacks(tight, replace(LARGE, memory_bytes=4 * GIB - 1)) == []  # looked at a moment later


def test_haproxy_takes_no_more_connections_than_it_had_files_for_at_its_start() -> None:
    """To raise its limit changes nothing while it runs, and where connections are not kept there are never so many."""
    behind_it = replace(LARGE, listeners={77: 20_000}, proxies=[77, 78])
    (lack,) = lacks(need_of(plan(fresh=False), K6_BYTES), behind_it)
    assert lack.command.startswith("sudo prlimit --pid $$ --nofile=25060:25060  # then start the service again")
    assert lacks(need_of(plan(), K6_BYTES), behind_it) == []
    assert lacks(need_of(plan(fresh=False), K6_BYTES), replace(behind_it, proxies=[78])) == []


@pytest.mark.parametrize(("quota", "found"), [("50000 100000", 0.5), ("max 100000", None), ("", None)])
def test_a_containers_quota_bounds_the_cores(
    quota: str, found: float | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(preflight, "_QUOTA", tmp_path / "cpu.max")
    assert preflight.cores() == (found or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(
    ("limit", "total", "available"), [("max", 64, 60), (str(2 * GIB), 2, 1), (str(99 * GIB), 64, 60)]
)
def test_a_containers_limit_bounds_the_memory(
    limit: str, total: int, available: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = SimpleNamespace(total=64 * GIB, available=60 * GIB)
    monkeypatch.setattr(preflight.psutil, "virtual_memory", lambda: machine)
    monkeypatch.setattr(preflight, "_GROUP", tmp_path)
    assert preflight.memory_bytes() == (64 * GIB, 60 * GIB), "no container"
    half = GIB // 2
    for name, text in {"max": limit, "current": str(3 * half), "stat": f"anon 1\ninactive_file {half}\nx 2\n"}.items():
        (tmp_path / f"memory.{name}").write_text(f"{text}\n")
    assert preflight.memory_bytes() == (total * GIB, available * GIB)


@pytest.mark.parametrize(("limit", "swap"), [("0", 0), ("max", 8), (str(3 * GIB), 2), (str(99 * GIB), 8)])
def test_a_containers_limit_bounds_the_swap(
    limit: str, swap: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A pod without any was said to have the machine's, and k6 was killed."""
    monkeypatch.setattr(preflight.psutil, "virtual_memory", memory(4 * GIB, 1 * GIB))
    monkeypatch.setattr(preflight.psutil, "swap_memory", lambda: SimpleNamespace(free=8 * GIB))
    monkeypatch.setattr(preflight, "_GROUP", tmp_path)
    (tmp_path / "memory.swap.max").write_text(f"{limit}\n")
    (tmp_path / "memory.swap.current").write_text(f"{GIB}\n")
    assert preflight.survey("http://127.0.0.1", tmp_path, {}).memory_bytes == (1 + swap) * GIB


def test_k6_calls_from_more_addresses_only_when_one_has_too_few_ports() -> None:
    assert local_ips(need_of(plan(), K6_BYTES), LARGE) == LOCAL_IPS
    assert local_ips(need_of(plan(fresh=False), K6_BYTES), LARGE) is None
    assert local_ips(need_of(plan(), K6_BYTES), replace(LARGE, loopback=False)) is None


def test_documents_need_disk_only_where_mongodb_is() -> None:
    need = need_of(plan(), K6_BYTES)
    machine = replace(LARGE, disk_bytes=need.disk_bytes + need.stored_bytes - 1)
    (lack,) = lacks(need, machine)
    assert lack.what.startswith("the record and the documents may need")
    assert [lack for lack in lacks(need, replace(machine, loopback=False)) if "disk" in lack.what] == []


def test_a_large_machine_lacks_nothing() -> None:
    assert lacks(need_of(plan(), K6_BYTES), LARGE) == []


@pytest.mark.parametrize(
    ("machine", "command"),
    [
        (replace(LARGE, hard_files=4096), "sudo prlimit --pid $$ --nofile=10256:10256"),
        (replace(LARGE, listeners={77: 1024, 78: -1}), "sudo prlimit --pid 77 --nofile=10256:10256"),
        (replace(LARGE, loopback=False), "ip_local_port_range='1024 65535'"),
        (replace(LARGE, memory_bytes=GIB), "fallocate -l 2049M /swapfile"),
        (replace(LARGE, disk_bytes=1024), "find .spillway/loadtests \\( -name answers.log -o -name 'state-*' -o"),
    ],
)
def test_what_is_missing_comes_with_the_command_that_mends_it(machine: Machine, command: str) -> None:
    (lack,) = lacks(need_of(plan(), K6_BYTES), machine)
    assert command in lack.command

"""The cap of docs/guarantees.md, at the server, over all generations of writers: real Budget, Tenure and Writer under
a clock set by hand, and a server that executes each command at the worst instant Hypothesis can think of.

Assumed, and nothing else: a command is executed within the operation time after its sender gave up, died or lost the
lease; only the commands of *one* writer, stopped between its last look at the lease and the send, may arrive whenever
they like.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from composed import worst_window
from generations import LANES, LEASE_S, OPERATION_S, Fate, Life, Process, R, Server, history, sound
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from test_pacing import StartRing, TokenBucket

from actors.adapters.clock import ManualClock
from actors.adapters.memory import MemoryLease
from actors.budget import Budget
from actors.core.errors import Fenced
from actors.core.pacing import SECOND_NS, CompletionRing
from actors.tenure import Tenure


def worst(lives: list[Life], fates: list[Fate], flaw: Callable[[Process], None] = sound) -> int:
    with asyncio.Runner() as runner:
        return worst_window(runner.run(history(lives, fates, flaw)))


fate = st.builds(
    Fate,
    st.sampled_from(["answered"] * 6 + ["lost", "failed", "not sent"]),
    st.sampled_from([0.0, 0.0, 0.0, 0.2]),
    st.sampled_from([0.0, 0.0, 0.001, 0.1, 0.3]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.0, 0.2, OPERATION_S]),
)
fates = st.lists(fate, min_size=1, max_size=12)
EXTREMES = [
    Fate("answered", 0.0, 0.0, 0.0, 0.0),
    Fate("answered", 0.0, 0.3, 1.0, 0.0),
    Fate("lost", 0.0, 0.0, 1.0, OPERATION_S),
]
extremes = st.lists(st.sampled_from(EXTREMES), min_size=6, max_size=8)
living = st.sampled_from([0.1, 1.2, 1.7, 2.3, 2.9, 3.7])
asleep = st.sampled_from([0.1, 0.7, 1.6, 2.9, 3.1, 3.4, 3.8, 4.1])
ended = st.builds(Life, living, st.sampled_from(["killed", "closed", "cut off"]), st.just(0.0))
stopped = st.builds(Life, living, st.just("stopped"), asleep)


def with_stopped(most: int) -> st.SearchStrategy[list[Life]]:
    """Generations of which `most` at most are stopped and go on later."""
    return st.tuples(st.lists(ended, max_size=1), st.lists(stopped, max_size=most), st.lists(ended, max_size=1)).map(
        lambda parts: [life for part in parts for life in part] + [Life(4.2, "killed", 0.0)]
    )


@settings(max_examples=150)
@given(with_stopped(1), fates)
def test_no_window_of_a_second_holds_more_than_r_executions_over_all_generations(
    lives: list[Life], fates: list[Fate]
) -> None:
    assert worst(lives, fates) <= R


@settings(max_examples=100)
@given(with_stopped(2), fates)
def test_each_further_stopped_generation_adds_its_lanes_and_no_more(lives: list[Life], fates: list[Fate]) -> None:
    assert worst(lives, fates) <= R + LANES


one_stopped = with_stopped(1)


def example(
    reaches: int, lives: st.SearchStrategy[list[Life]] = one_stopped, flaw: Callable[[Process], None] = sound
) -> None:
    """Raises `NoSuchExample` unless Hypothesis finds a history with `reaches` executions in one window."""
    find(
        st.tuples(lives, extremes),
        lambda case: worst(*case, flaw) >= reaches,
        settings=settings(max_examples=600, phases=[Phase.generate]),
    )


def test_the_reserve_is_needed_and_used_up_by_one_stopped_generation() -> None:
    example(R)


def test_two_stopped_generations_in_one_window_are_beyond_the_promise() -> None:
    first = st.sampled_from([6.0 + tenth / 10 for tenth in range(15)])
    both = st.builds(lambda s: [Life(2.9, "stopped", s), Life(2.9, "stopped", 3.0), Life(4.2, "killed", 0.0)], first)
    example(R + 1, both)


@settings(max_examples=100)
@given(with_stopped(1), fates)
def test_the_pace_is_no_part_of_the_proof(lives: list[Life], fates: list[Fate]) -> None:
    assert worst(lives, fates, unpaced) <= R


@settings(max_examples=100)
@given(with_stopped(1), fates)
def test_where_bytes_count_it_is_the_sum_of_the_costs_that_is_bounded(lives: list[Life], fates: list[Fate]) -> None:
    assert worst(lives, fates, weighed) <= R


def weighed(process: Process) -> None:
    """Every second command costs two; six slots are one for each of two lanes' doubles, and one double more."""
    process.budget = Budget(R, LANES, OPERATION_S, process, operation_bytes=1, max_bytes=2)


def cheap(process: Process) -> None:
    """As if each lane kept back one slot, whatever its command costs."""
    weighed(process)
    process.budget._ring = CompletionRing(R - LANES)


def unpaced(process: Process) -> None:
    process.budget._ring = CompletionRing(R - LANES, pace_ns=0)


def start_anchored(process: Process) -> None:
    process.budget._ring = StartRing(R - LANES)  # type: ignore[assignment]


def token_bucket(process: Process) -> None:
    process.budget._ring = TokenBucket(R - LANES)  # type: ignore[assignment]


def no_quarantine(process: Process) -> None:
    unpaced(process)
    process.budget.quarantine = lambda under_way_s: None  # type: ignore[method-assign]


def no_reserve(process: Process) -> None:
    process.budget._ring = CompletionRing(R)


def unknown_is_taken_for_an_end(process: Process) -> None:
    unpaced(process)
    process.budget.unknown = process.budget.complete  # type: ignore[method-assign]


def never_looks_at_its_lease(process: Process) -> None:
    process.tenure.__class__ = type("Blind", (Tenure,), {"holds": property(lambda self: self.epoch > 0)})


STRAWMEN = [
    cheap, start_anchored, token_bucket, no_quarantine, no_reserve, unknown_is_taken_for_an_end,
    never_looks_at_its_lease,
]  # fmt: skip


@pytest.mark.parametrize("flaw", STRAWMEN)
def test_the_property_finds_a_writer_that_only_looks_right(flaw: Callable[[Process], None]) -> None:
    try:
        example(R + 1, flaw=flaw)
    except NoSuchExample:
        pytest.fail("the property does not tell this writer from a right one")


# Stale writers stop themselves


@pytest.mark.parametrize("latency_s", [0.0, 0.05, 0.3])
async def test_a_writer_cut_off_from_redis_sends_until_its_lease_ends_and_not_after_a_reply_that_comes_later(
    latency_s: float,
) -> None:
    clock = ManualClock()
    server = Server(clock, [Fate("answered", 0.0, latency_s, 1.0, 0.0)])
    process = Process(server, MemoryLease(clock, ttl_s=LEASE_S, operation_s=OPERATION_S), sound)
    await clock.advance(2.0)
    process.reaches_redis = False
    await clock.advance(2.0)
    lease_ended_ns = process.tenure._until_ns
    assert 2 * SECOND_NS < lease_ended_ns <= int((2 + LEASE_S) * SECOND_NS)
    assert lease_ended_ns - SECOND_NS // 2 < max(at for _, at in server.received) < lease_ended_ns
    process.reaches_redis = True
    await clock.advance(2.0)
    assert max(at for _, at in server.received) > 4 * SECOND_NS, "nobody took over, and it does not go on"
    await process.die()


async def test_a_writer_that_wakes_up_after_its_successor_began_sends_what_it_had_looked_for_and_ends() -> None:
    clock = ManualClock()
    server, lease = Server(clock, EXTREMES[:1]), MemoryLease(clock, ttl_s=LEASE_S, operation_s=OPERATION_S)
    process = Process(server, lease, sound)
    await clock.advance(1.5)
    await process.stop()
    successor = Process(server, lease.another(), sound)
    await clock.advance(4.0)
    process.reaches_redis = True
    woken_ns = clock.now_ns()
    waking = asyncio.create_task(process.wake_after(0.0))
    await clock.advance(2.0)
    await waking
    assert len([at for sender, at in server.received if sender is process and at >= woken_ns]) == LANES
    assert any(sender is successor for sender, _ in server.received)
    assert process.run.done()
    with pytest.raises(Fenced):
        process.run.result()
    for each in (process, successor):
        await each.die()


# Settings that change


async def test_a_writer_of_a_shorter_time_waits_for_what_one_of_a_longer_time_has_left_behind() -> None:
    """Through any number of heirs that die while they wait: else what is that late overwrites what they have stored."""
    clock, late_s = ManualClock(), 8.0
    server = Server(clock, [Fate("answered", 0.0, 0.1, 1.0, late_s)])
    former = Process(server, MemoryLease(clock, ttl_s=LEASE_S, operation_s=late_s), sound, late_s)
    await clock.advance(1.3)
    await former.die()
    assert server.under_way[former]
    over_ns, lease = clock.now_ns() + int(late_s * SECOND_NS), former.lease
    for seconds in (1.2, 1.2, 10.0):
        heir = Process(server, lease := lease.another(OPERATION_S), sound)
        await clock.advance(seconds)
        await heir.die()
    assert min(at for sender, at in server.received if sender is not former) >= over_ns


async def test_a_writer_that_has_waited_makes_its_heir_wait_for_its_own_commands_only() -> None:
    clock = ManualClock()
    server, lease = Server(clock, EXTREMES[:1]), MemoryLease(clock, ttl_s=LEASE_S, operation_s=8.0)
    former = Process(server, lease, sound, 8.0)
    await clock.advance(1.3)
    await former.die()
    heir = Process(server, lease.another(OPERATION_S), sound)
    await clock.advance(LEASE_S + 8.0 + LEASE_S)
    await heir.die()
    await clock.advance(LEASE_S)
    assert await lease.another(OPERATION_S).acquire() == (3, OPERATION_S)

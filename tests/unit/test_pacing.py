"""The rate limit, exactly: at the server, no window of one second holds more than R commands.

The property is also put to two limiters that look right and are not, to see that it finds them out.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from actors.core.pacing import SECOND_NS, CompletionRing, WindowGauge, backoff_s, cost_of
from actors.core.rates import RateMeter, retry_after_s

MS = 1_000_000
R = 10  # small, so that a window fills quickly


class Limiter(Protocol):
    def wait_ns(self, now: int, cost: int = 1) -> int | None: ...

    def admit(self, now: int, cost: int = 1) -> None: ...

    def complete(self, end: int, cost: int = 1) -> None: ...


class StartRing:
    """A strawman: remembers when commands began. What began a window ago may still be under way."""

    def __init__(self, slots: int) -> None:
        self._starts = [-(1 << 62)] * slots

    def wait_ns(self, now: int, cost: int = 1) -> int:
        return max(0, self._starts[0] + SECOND_NS - now)

    def admit(self, now: int, cost: int = 1) -> None:
        heapq.heapreplace(self._starts, now)

    def complete(self, end: int, cost: int = 1) -> None: ...

    def cancel(self, now: int, cost: int = 1) -> None: ...


class TokenBucket:
    """A strawman: a full bucket and what flows in during the next second are almost two seconds' worth."""

    def __init__(self, depth: int) -> None:
        self._depth, self._tokens, self._at = depth, depth * SECOND_NS, 0

    def wait_ns(self, now: int, cost: int = 1) -> int:
        self._tokens = min(self._depth * SECOND_NS, self._tokens + (now - self._at) * self._depth)
        self._at = now
        return max(0, -(-(SECOND_NS - self._tokens) // self._depth))

    def admit(self, now: int, cost: int = 1) -> None:
        self._tokens -= SECOND_NS

    def complete(self, end: int, cost: int = 1) -> None: ...

    def cancel(self, now: int, cost: int = 1) -> None: ...


# One command: how long nothing is asked before it, how long it takes, and where between its two ends the server
# executes it.
Step = tuple[int, int, float]
times = st.sampled_from([0, 0, 0, 1, 3 * MS, 40 * MS, 250 * MS, SECOND_NS - 1, SECOND_NS, 1_300 * MS])
schedules = st.lists(st.tuples(times, times, st.sampled_from([0.0, 0.5, 1.0])), min_size=R + 1, max_size=3 * R)


def executed(limiter: Limiter, steps: list[Step], lanes: int) -> list[int]:
    """The instants at which the server executes the commands of this schedule, when at most `lanes` are under way."""
    now, under_way, instants = 0, list[int](), list[int]()

    def finish_until(time: int) -> None:
        while under_way and under_way[0] <= time:
            limiter.complete(heapq.heappop(under_way))

    for pause, latency, where in steps:
        now += pause
        finish_until(now)
        while True:
            wait = limiter.wait_ns(now) if len(under_way) < lanes else None
            if wait == 0:
                break
            now = min(now + wait, under_way[0] if under_way else now + wait) if wait is not None else under_way[0]
            finish_until(now)
        limiter.admit(now)
        instants.append(now + int(latency * where))
        heapq.heappush(under_way, now + latency)
    return sorted(instants)


def worst_window(instants: list[int], window_ns: int = SECOND_NS) -> int:
    """Most instants in any half-open window."""
    worst = first = 0
    for last, instant in enumerate(instants):
        while instants[first] <= instant - window_ns:
            first += 1
        worst = max(worst, last - first + 1)
    return worst


RINGS: dict[str, Callable[[], CompletionRing]] = {
    "paced": lambda: CompletionRing(R),
    "unpaced": lambda: CompletionRing(R, pace_ns=0),
}


@pytest.mark.parametrize("ring", RINGS.values(), ids=RINGS)
@settings(max_examples=150)
@given(steps=schedules, lanes=st.integers(1, 2 * R))
def test_no_window_of_a_second_holds_more_than_r_commands_at_the_server(
    ring: Callable[[], CompletionRing], steps: list[Step], lanes: int
) -> None:
    assert worst_window(executed(ring(), steps, lanes)) <= R


@pytest.mark.parametrize("strawman", [StartRing, TokenBucket])
def test_the_property_finds_a_limiter_that_only_looks_right(strawman: Callable[[int], Limiter]) -> None:
    def breaks(case: tuple[list[Step], int]) -> bool:
        return worst_window(executed(strawman(R), *case)) > R

    try:
        find(
            st.tuples(schedules, st.integers(1, 2 * R)),
            breaks,
            settings=settings(max_examples=3_000, phases=[Phase.generate]),
        )
    except NoSuchExample:
        pytest.fail("the property does not tell this limiter from a right one")


def test_a_full_ring_gives_all_its_slots_again_after_a_window_and_not_earlier() -> None:
    ring = CompletionRing(2, pace_ns=0)
    for _ in range(2):
        ring.admit(0)
        ring.complete(7)
    assert ring.wait_ns(7) == SECOND_NS
    assert ring.wait_ns(SECOND_NS + 6) == 1
    assert ring.wait_ns(SECOND_NS + 7) == 0


def test_a_command_without_an_end_keeps_its_slot_for_ever() -> None:
    ring = CompletionRing(1, pace_ns=0)
    ring.admit(0)
    assert ring.wait_ns(1 << 60) is None


def test_a_command_that_never_left_costs_nothing() -> None:
    ring = CompletionRing(1, pace_ns=0)
    ring.admit(5)
    ring.cancel(6)
    assert ring.wait_ns(6) == 0


def test_commands_leave_evenly() -> None:
    ring = CompletionRing(100)
    ring.admit(0)
    assert ring.wait_ns(0) == 10 * MS
    assert ring.wait_ns(10 * MS) == 0


def test_a_ring_that_is_misused_says_so() -> None:
    ring = CompletionRing(1)
    with pytest.raises(RuntimeError, match="not taken"):
        ring.complete(0)
    ring.admit(0)
    with pytest.raises(RuntimeError, match="before its time"):
        ring.admit(0)
    for slots, window_ns in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least one slot"):
            CompletionRing(slots, window_ns)


@given(st.lists(st.integers(0, 3 * SECOND_NS), min_size=1, max_size=60).map(sorted))
def test_the_gauge_tells_the_worst_window_and_the_last(ends: list[int]) -> None:
    gauge = WindowGauge()
    for end in ends:
        gauge.note(end)
    assert gauge.worst == worst_window(ends)
    assert gauge.last(ends[-1]) == sum(ends[-1] - SECOND_NS < end for end in ends)
    assert gauge.last(ends[-1] + SECOND_NS) == 0


@pytest.mark.parametrize(
    ("attempt", "pause_s"),
    [
        (1, 0.05),
        (2, 0.05 * 2),
        (3, 0.05 * 4),
        (5, 0.05 * 16),
        (6, 0.05 * 32),
        (7, 2.0),  # 0.05 * 64 would be 3.2
        (1_000_000, 2.0),
    ],
)
def test_pauses_double_up_to_a_bound(attempt: int, pause_s: float) -> None:
    assert backoff_s(attempt) == pytest.approx(pause_s)


def test_the_bound_can_be_chosen() -> None:
    assert [backoff_s(n, most_s=0.15) for n in (1, 2, 3)] == [0.05, 0.1, 0.15]


def test_a_rate_is_events_over_the_window_and_falls_to_nothing() -> None:
    meter = RateMeter()
    for tenth in range(50):
        meter.note(tenth * SECOND_NS // 10, 20)
    assert meter.per_s(5 * SECOND_NS) == pytest.approx(200.0)
    assert meter.per_s(7 * SECOND_NS + SECOND_NS // 2) == pytest.approx(100.0)
    assert meter.per_s(20 * SECOND_NS) == 0.0
    assert meter.total == 1_000


def test_what_has_just_begun_is_not_averaged_with_the_silence_before() -> None:
    meter = RateMeter()
    for tenth in range(600, 620):  # a minute of nothing, then two seconds of 20 in a tenth
        meter.note(tenth * SECOND_NS // 10, 20)
    assert meter.per_s(62 * SECOND_NS) == pytest.approx(200.0)
    burst = RateMeter()
    burst.note(0, 1_000)
    assert burst.per_s(1) == 1_000.0, "what happened within less than a second is no higher rate for that"


@pytest.mark.parametrize(
    ("excess", "drained_per_s", "wait_s"),
    [
        (0, 100.0, 1.0),
        (50, 100.0, 1.0),  # half a second, and nobody is asked to come back sooner than in one
        (400, 100.0, 400 / 100.0),
        (1_000_000, 100.0, 60.0),
        (400, 0.0, 5.0),  # nothing moves: no better guess
        (10**15, 0.0, 5.0),
        (10**15, 1e-9, 60.0),
        (10**15, 1e15, 1.0),
    ],
)
def test_a_refused_caller_waits_until_the_excess_has_drained(
    excess: float, drained_per_s: float, wait_s: float
) -> None:
    assert retry_after_s(excess, drained_per_s) == wait_s


costly = st.tuples(times, times, st.sampled_from([0.0, 0.5, 1.0]), st.integers(1, 4))


@given(st.lists(costly, min_size=R, max_size=2 * R))
def test_where_commands_cost_more_than_one_the_sum_of_the_costs_is_bounded(
    steps: list[tuple[int, int, float, int]],
) -> None:
    ring, now, instants = CompletionRing(R, pace_ns=0), 0, list[int]()
    under_way = list[tuple[int, int]]()
    for pause, latency, where, cost in steps:
        now += pause
        while (wait := ring.wait_ns(now, cost)) != 0 or (under_way and under_way[0][0] <= now):
            if under_way and (wait is None or under_way[0][0] <= now + wait):
                end, paid = heapq.heappop(under_way)
                now = max(now, end)
                ring.complete(end, paid)
            else:
                now += wait or 0
        ring.admit(now, cost)
        instants += [now + int(latency * where)] * cost
        heapq.heappush(under_way, (now + latency, cost))
    assert worst_window(sorted(instants)) <= R


def test_a_command_that_costs_three_waits_for_the_third_slot_and_leaves_room_for_three() -> None:
    ring = CompletionRing(4)
    for end in (10, 20):
        ring.admit(ring.wait_ns(0) or 0)
        ring.complete(end * MS)
    assert ring.wait_ns(SECOND_NS, 2) == 0
    assert ring.wait_ns(SECOND_NS, 3) == 10 * MS
    assert ring.wait_ns(SECOND_NS, 5) is None
    ring.admit(SECOND_NS + 10 * MS, 3)
    assert ring.wait_ns(SECOND_NS + 10 * MS) == 3 * SECOND_NS // 4
    with pytest.raises(RuntimeError, match="not taken"):
        ring.complete(0, 4)


@pytest.mark.parametrize(
    ("size", "operation_bytes", "cost"),
    [(0, 0, 1), (1 << 24, 0, 1), (0, 4, 1), (4, 4, 1), (5, 4, 2), (8, 4, 2), (9, 4, 3)],
)
def test_what_a_command_costs(size: int, operation_bytes: int, cost: int) -> None:
    assert cost_of(size, operation_bytes) == cost

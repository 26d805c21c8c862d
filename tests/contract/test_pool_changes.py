"""Pools of any sizes one after the other, with a backlog: buffers die, begin late or go on beside their successors, the
writer dies and MongoDB is away meanwhile. Judged is every version that it was given, in order."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from actors.appends import Kept
from actors.core.errors import CommandUnknown, OutcomeUnknown, SpillwayError
from tests.contract.pools import SIZES, Pools, Sent

KEYS = ["f", "b"]  # the first has another index in each pool: 0of1, 1of2, 2of3; the second 0of1, 0of2, 1of3
Event = tuple[Any, ...]
WRITES = [("write", "f")] * 6 + [("write", "b")] + [("an old replica writes", "f")] * 3
OLD = [("killed", "all at once"), ("goes on", "the first late"), ("cut off", "all at once")]
POOLS = [("pool", size, *old) for size in SIZES for old in OLD]
BUFFERS = [("buffer", index, old) for index in (0, 1) for old in ("killed", "goes on", "cut off")]
DATABASE = [("database", "away"), ("database", "away"), ("database", "back"), ("database", "an answer is lost")]
EVENTS = WRITES + POOLS + BUFFERS + DATABASE + [("the writer dies",)] * 2 + [("time",)] * 3


async def tell(pools: Pools, events: list[Event]) -> None:
    for event in events:
        match event:
            case "write", key:
                await pools.write(key, pools.present)
            case "an old replica writes", key:
                await pools.write(key, pools.former)
            case "pool", size, old, start:
                await pools.resize(size, old, first_late=start == "the first late")
            case "buffer", index, old:
                await pools.replace(index, old)
            case "database", "an answer is lost":
                pools.store.faults.plan("store reply", CommandUnknown("lost"))
            case "database", state:
                pools.store.is_away = state == "away"
            case "the writer dies",:
                await pools.kill_writer()
            case "time",:
                await pools.clock.advance(0.5)
        await pools.clock.advance(0.1)
        pools.restart_dead()
    await pools.come_to_rest()


def judge(pools: Pools) -> None:
    for part in pools.parts + pools.dead:
        assert part.fault() is None, "a buffer died of a fault of ours"
    assert not pools.store.twice
    for key in KEYS:
        judge_key(pools, key, [sent for sent in pools.sent if sent.key == key])


def judge_key(pools: Pools, key: str, writes: list[Sent]) -> None:
    kept = {sent.number for sent in writes if is_kept(sent)}
    stream = {sent.number: sent.stream for sent in writes}
    versions = pools.store.versions.get(key, [])
    assert all(is_kept(sent) is not False for sent in writes if sent.number in versions), "a ghost"
    last = versions[-1] if versions else -1
    assert all(number <= last for number in kept), f"{key}: the last accepted one is not the last applied: {versions}"
    for at, number in enumerate(versions):
        newer = [other for other in versions[:at] if other > number]
        assert {stream[other] for other in newer} <= {stream[number]}, f"{key}: a pool before wins for a while"
    falls = sum(later < before for before, later in pairwise(versions))
    assert falls < max(1, pools.openings(key)), f"{key}: more falls than buffers that had to repeat: {versions}"


def is_kept(sent: Sent) -> bool | None:
    """None: nobody was told."""
    if not sent.answer.done():
        return None
    answer = sent.answer.result()
    assert isinstance(answer, Kept | SpillwayError)
    return isinstance(answer, Kept) or (None if isinstance(answer, OutcomeUnknown) else False)


async def story(url: str, events: list[Event], ways: list[float], is_away: bool) -> None:
    note(f"{events} {ways} {is_away}")
    with pytest.MonkeyPatch.context() as monkeypatch:
        pools = Pools(url, ways, monkeypatch)
        try:
            await pools.resize(1)
            await pools.clock.advance(1.1)
            pools.store.is_away = is_away
            await tell(pools, events)
            judge(pools)
        finally:
            await pools.stop()


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from(EVENTS), min_size=8, max_size=20),
    st.lists(st.sampled_from([0.0, 0.0, 0.3, 1.5]), min_size=1, max_size=6),
    st.sampled_from([True, True, False]),
)
def test_whatever_pools_follow_each_other_the_last_accepted_version_wins(
    redis_url: str, events: list[Event], ways: list[float], is_away: bool
) -> None:
    asyncio.run(story(redis_url, events, ways, is_away))
